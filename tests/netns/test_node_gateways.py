"""Gateways and Ingresses that listen on a node: a real cloud, a real agent, real containers, and a machine of the LAN that reaches no cloud."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeedge.appengine.runtime import cgroups
from tests.kit import images
from tests.kit.certs import TestAuthority
from tests.kit.topology import Host, Topology, until
from tests.netns.test_join import KUBEEDGE, PREFIX, Site

pytestmark = pytest.mark.root

ADDRESS = "192.168.7.1"
OWN = "192.168.7.9"
SERVER = "echo hello >/tmp/index.html; echo NAME >/tmp/name; exec httpd -f -p 8080 -h /tmp"


@pytest.fixture
def lan(topology: Topology) -> Host:
    return topology.host("lan")


@pytest.fixture
def site(topology: Topology, lan: Host) -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))  # not tmp_path: the path of a socket must be short
    try:
        found = Site(topology, directory)
        topology.wire(found.machine, f"{ADDRESS}/24", lan, "192.168.7.2/24")
        found.machine.ip("addr", "add", f"{OWN}/32", "dev", "lo")
        lan.ip("route", "add", f"{OWN}/32", "via", ADDRESS)
        yield found
    finally:
        topology.__exit__()
        cgroups.kill_and_remove(PREFIX)
        shutil.rmtree(directory, ignore_errors=True)


def pod(name: str) -> dict[str, Any]:
    container = {
        "name": "c", "image": "demo:1", "command": ["sh", "-c", SERVER.replace("NAME", name)],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }  # fmt: skip
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"nodeName": "edge1", "terminationGracePeriodSeconds": 0, "containers": [container]},
    }  # fmt: skip


def service(name: str) -> dict[str, Any]:
    spec = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def of_gateways(kind: str, name: str, spec: dict[str, Any], **annotations: str) -> dict[str, Any]:
    metadata = {"name": name, "annotations": {key.replace("_", "/"): text for key, text in annotations.items()}}
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def objects(secret: dict[str, Any]) -> list[dict[str, Any]]:
    listeners = [
        {"name": "web", "port": 80, "protocol": "HTTP"},
        {
            "name": "tls", "port": 8443, "protocol": "HTTPS", "hostname": "shop.example",
            "tls": {"certificateRefs": [{"name": "shop"}]},
        },
        {"name": "raw", "port": 9000, "protocol": "TCP"},
    ]  # fmt: skip
    rules = [
        {"matches": [{"path": {"type": "PathPrefix", "value": "/old"}}],
         "filters": [{"type": "RequestRedirect", "requestRedirect": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}}]},
        {"matches": [{"path": {"type": "PathPrefix", "value": "/b"}}],
         "filters": [{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}}],
         "backendRefs": [{"name": "b", "port": 80}]},
        {"backendRefs": [{"name": "a", "port": 80}]},
    ]  # fmt: skip
    ingress = {"rules": [{"host": "b.example", "http": {"paths": [
        {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "b", "port": {"number": 80}}}}]}}],
        "ingressClassName": "lan"}  # fmt: skip
    of_class = {"controllerName": "kubeedge.io/node-gateway"}
    kind, edge = "GatewayClass", "kubernetes.io/hostname=edge1"
    return [
        secret, pod("a"), pod("b"), service("a"), service("b"),
        of_gateways(kind, "kubeedge-node", of_class),
        of_gateways(kind, "elsewhere", of_class, **{"kubeedge.io_nodes": "kubernetes.io/hostname=edge2"}),
        of_gateways("Gateway", "site", {"gatewayClassName": "kubeedge-node", "listeners": listeners}, **{"kubeedge.io_nodes": edge}),
        of_gateways("Gateway", "away", {"gatewayClassName": "elsewhere", "listeners": listeners[:1]}),
        of_gateways("HTTPRoute", "shop", {"parentRefs": [{"name": "site"}], "hostnames": ["shop.example"], "rules": rules}),
        of_gateways("TCPRoute", "raw", {"parentRefs": [{"name": "site"}], "rules": [{"backendRefs": [{"name": "b", "port": 80}]}]}),
        {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "lan"},
         "spec": {"controller": "kubeedge.io/node-ingress"}},
        {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "b"}, "spec": ingress},
    ]  # fmt: skip


def test_the_lan_reaches_pods_by_gateways_of_a_node_also_without_the_cloud(site: Site, lan: Host) -> None:
    site.join()
    config = site.root / "etc/kubeedge/kubeedge.yaml"
    head, name, tail = config.read_text().partition("  mesh:")
    tail = tail.replace("enable: false", "enable: true", 1)  # of the module
    before, gateways, after = tail.partition("    gateways:")
    after = after.replace("enable: false", "enable: true", 1)
    after = after.replace('address: ""', f"address: {ADDRESS}", 1).replace("addresses: []", f"addresses: [{OWN}]", 1)
    config.write_text(head + name + before + gateways + after)
    site.start_agent()
    socket = str(site.root / "run/kubeedge/edge.sock")
    archive = str(images.build(site.directory / "demo.tar", "demo:1"))
    site.machine.run(*KUBEEDGE, "image", "import", archive, "demo:1", "--socket", socket)
    authority = TestAuthority(site.directory)
    pair = authority.issue("shop", hosts=["shop.example"], file="shop")
    data = {"tls.crt": pair.cert, "tls.key": pair.key}
    secret = {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop"}, "type": "kubernetes.io/tls",
        "data": {key: base64.b64encode(path.read_bytes()).decode() for key, path in data.items()},
    }  # fmt: skip
    site.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects(secret)}))

    def ask(url: str, *more: str) -> str:
        argv = ("curl", "-s", "--max-time", "20", "-w", " %{http_code} %{redirect_url}", *more)
        return lan.run(*argv, url, check=False).strip()

    def shown(*what: str) -> dict[str, Any]:
        return dict(json.loads(site.kubectl("get", *what, "-o", "json")).get("status") or {})

    def conditions(status: dict[str, Any]) -> dict[str, str]:
        return {c["type"]: c["status"] for c in status.get("conditions", ())}

    # the first Gateway has the address that is for one alone, and Ingresses share the other one
    host = ("--resolve", f"shop.example:80:{OWN}", "--resolve", f"shop.example:8443:{OWN}")
    until(lambda: ask("http://shop.example/", *host).startswith("hello"), what="a page through the node")
    assert ask("http://shop.example/b/name", *host) == "b\n 200"
    assert ask("http://shop.example/old/x?q", *host) == "302 http://shop.example/x?q"
    assert ask("http://other.example/", "--resolve", f"other.example:80:{OWN}").endswith("404")
    by_tls = ("--cacert", str(authority.ca), *host)
    until(lambda: ask("https://shop.example:8443/name", *by_tls) == "a\n 200", what="the page over TLS")
    until(lambda: ask(f"http://{OWN}:9000/name") == "b\n 200", what="the page by a TCPRoute")
    ingress = ("--resolve", f"b.example:80:{ADDRESS}")
    until(lambda: ask("http://b.example/name", *ingress) == "b\n 200", what="the page of the Ingress")

    def settled() -> bool:
        found = shown("gateway", "site")
        return conditions(found) == {"Accepted": "True", "Programmed": "True"} and [
            a["value"] for a in found["addresses"]
        ] == [OWN]

    until(settled, what="the status of the Gateway")
    until(lambda: conditions(shown("gateway", "away")).get("Programmed") == "False", what="that of the other one")
    [parent] = shown("httproute", "shop")["parents"]
    assert parent["controllerName"] == "kubeedge.io/node-gateway" and conditions(parent)["Accepted"] == "True"
    assert shown("ingress", "b")["loadBalancer"]["ingress"] == [{"ip": ADDRESS}]
    trace = site.machine.run(*KUBEEDGE, "mesh", "trace", "b", "--socket", socket)
    assert "HTTPRoute default/shop" in trace and "Ingress default/b" in trace and f"{OWN}:9000" in trace

    # no cloud any more, and the agent begins with what it has
    site.cloud.signal(site.process, signal.SIGKILL)
    site.process.wait(90)
    site.machine.signal(site.agent, signal.SIGTERM)
    site.agent.wait(90)
    assert ask("http://shop.example/", *host).startswith("000")
    site.agent = site.machine.spawn(*KUBEEDGE, "edge", "--root-dir", str(site.root), log=site.directory / "edge2.log")
    until(lambda: ask("https://shop.example:8443/b/name", *by_tls) == "b\n 200", what="the page without the cloud")
    until(lambda: ask("http://b.example/name", *ingress) == "b\n 200", what="the Ingress without the cloud")

    # with the cloud back a Gateway that goes takes its ports along
    site._start_cloud()
    until(lambda: " Ready " in site.kubectl("get", "nodes"), what="Ready")
    site.kubectl("delete", "gateway", "site")
    until(lambda: ask("http://shop.example/", *host).startswith("000"), what="closed ports")
    assert ask("http://b.example/name", *ingress) == "b\n 200"
