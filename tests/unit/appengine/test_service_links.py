"""Variables for the Services of a namespace, as Kubernetes documents them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api.pod import Pod
from kubeedge.api.pod_parser import parse
from kubeedge.appengine.prepare import Preparer
from kubeedge.appengine.service_links import variables
from tests.unit.appengine.world import container, manifest, pod


def service(name: str, address: str = "10.96.0.7", *ports: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"clusterIP": address, "ports": list(ports)}}


def test_a_service_of_two_ports() -> None:
    http, dns = {"name": "http", "port": 80}, {"name": "dns-udp", "port": 53, "protocol": "UDP"}
    assert variables([service("my-web", "10.96.0.7", http, dns)]) == {
        "MY_WEB_SERVICE_HOST": "10.96.0.7",
        "MY_WEB_SERVICE_PORT": "80",
        "MY_WEB_SERVICE_PORT_HTTP": "80",
        "MY_WEB_SERVICE_PORT_DNS_UDP": "53",
        "MY_WEB_PORT": "tcp://10.96.0.7:80",
        "MY_WEB_PORT_80_TCP": "tcp://10.96.0.7:80",
        "MY_WEB_PORT_80_TCP_PROTO": "tcp",
        "MY_WEB_PORT_80_TCP_PORT": "80",
        "MY_WEB_PORT_80_TCP_ADDR": "10.96.0.7",
        "MY_WEB_PORT_53_UDP": "udp://10.96.0.7:53",
        "MY_WEB_PORT_53_UDP_PROTO": "udp",
        "MY_WEB_PORT_53_UDP_PORT": "53",
        "MY_WEB_PORT_53_UDP_ADDR": "10.96.0.7",
    }
    assert variables([service("six", "fd00::7", http)])["SIX_PORT"] == "tcp://[fd00::7]:80"


@pytest.mark.parametrize("odd", [service("a", "None", {"port": 80}), service("a", ""), service("a"),
                                 service("a", "10.0.0.1", {"port": "http"}), {"metadata": {"name": "a"}}])  # fmt: skip
def test_what_has_no_address_has_no_variables(odd: dict[str, Any]) -> None:
    assert variables([odd]) == {}


def test_a_container_has_them_before_its_own_and_may_do_without(tmp_path: Path) -> None:
    prepare = Preparer(node="edge1", host_ip="100.64.0.1", state=tmp_path, log_root=tmp_path / "logs")

    def environment(of: Pod) -> Mapping[str, str]:
        return asyncio.run(prepare.configure(of, of.containers[0], 0, "10.244.1.2")).env

    prepare.keep("services", "default", "web", service("web", "10.96.0.7", {"port": 80}))
    prepare.keep("services", "other", "db", service("db", "10.96.0.8", {"port": 81}))
    own = [{"name": "URL", "value": "http://$(WEB_SERVICE_HOST)"}, {"name": "WEB_PORT", "value": "mine"}]
    linked = pod(containers=[container(env=own)])
    env = environment(linked)
    assert (env["URL"], env["WEB_PORT"], env["WEB_SERVICE_PORT"]) == ("http://10.96.0.7", "mine", "80")
    assert not any(name.startswith("DB_") for name in env)
    without = pod(enableServiceLinks=False)
    env = environment(without)
    assert not any(name.startswith("WEB_") for name in env)
    prepare.keep("services", "default", "kubernetes", service("kubernetes", "10.96.0.1", {"port": 443}))
    elsewhere = manifest(enableServiceLinks=False)
    elsewhere["metadata"]["namespace"] = "other"
    env = environment(parse(elsewhere))
    assert (env["KUBERNETES_SERVICE_HOST"], env["KUBERNETES_SERVICE_PORT"]) == ("10.96.0.1", "443")
    prepare.keep("services", "default", "kubernetes", None)
    prepare.keep("services", "default", "web", None)
    env = environment(pod())
    assert "WEB_SERVICE_HOST" not in env
