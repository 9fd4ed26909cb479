"""What `kubectl` shows of a node that lacks something, and of a Service that is not published as it says: real cloud, real agent."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from tests.kit.topology import Host, until
from tests.netns.test_join import Site, site  # noqa: F401

pytestmark = pytest.mark.root

SERVICE = {
    "apiVersion": "v1", "kind": "Service",
    "metadata": {"name": "web", "annotations": {"kubeedge.io/publish": "shop", "kubeedge.io/access": "tokn"}},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
}  # fmt: skip


def uplink_of(host: Host) -> str:
    return next(line.split()[1] for line in host.ip("-o", "addr").splitlines() if " 203.0.113.7/" in line)


def test_kubectl_shows_what_a_node_lacks_and_that_it_has_it_again(site: Site) -> None:  # noqa: F811
    def condition(kind: str) -> dict[str, Any]:
        node = json.loads(site.kubectl("get", "node", "edge1", "-o", "json"))
        return next((c for c in node["status"]["conditions"] if c["type"] == kind), {})

    def warned(reason: str) -> bool:
        return reason in site.kubectl("get", "events", "--field-selector", "type=Warning")

    site.join()
    site.start_agent()
    site.kubectl("apply", "-f", "-", input=json.dumps(SERVICE))
    until(lambda: warned("UnknownAccess"), what="the event of the Service")

    conmon = shutil.which("conmon")
    assert conmon
    site.machine.run("mount", "--bind", "/dev/null", conmon)  # in the mount namespace of the machine alone
    until(lambda: "NotReady" in site.kubectl("get", "nodes"), what="NotReady")
    ready = condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "KubeletNotReady")
    assert "container runtime is down: conmon missing" in ready["message"]
    until(lambda: warned("ContainerRuntimeNotReady"), what="the event of the node")
    site.machine.run("umount", conmon)
    until(lambda: condition("Ready")["status"] == "True", what="Ready again")

    until(lambda: condition("KubeBusReady").get("reason") == "LinkUp", what="a link")
    uplink = uplink_of(site.machine)
    site.machine.ip("addr", "add", "100.64.3.7/16", "dev", uplink)
    until(lambda: condition("KubeBusReady")["reason"] == "AddressConflict", what="the conflict")
    assert f"{uplink} is in 100.64.0.0/16" in condition("KubeBusReady")["message"]
    until(lambda: warned("KubeBusAddressConflict"), what="the event of it")
    site.machine.ip("addr", "del", "100.64.3.7/16", "dev", uplink)
    until(lambda: condition("KubeBusReady")["reason"] == "LinkUp", what="the end of it")
