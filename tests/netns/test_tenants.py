"""Two tenants on one cloud, with the same node name, the same addresses, the same object names: neither sees the other."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit import control_groups, images
from tests.kit.topology import Host, edges_behind_nat, until

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
KUBECTL = str(ROOT / "build/debian/usr/bin/kubectl")
KUBEEDGE = [sys.executable, "-m", "kubeedge"]
PREFIX = f"kbten{os.getpid()}"
TENANTS = ("red", "blue")


def web(colour: str) -> str:
    pod = {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "nodeName": "edge1", "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "c", "image": "demo:1", "ports": [{"containerPort": 8080}],
                "command": ["sh", "-c", f"echo {colour} > /www/index.html; exec httpd -f -p 8080 -h /www"],
            }],
        },
    }  # fmt: skip
    service = {
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "annotations": {"kubeedge.io/publish": "web"}},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 8080}]},
    }  # fmt: skip
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [pod, service]})


class Site:
    """One cloud; tenant red's edge1 on the first edge host, tenant blue's edge1 on the second."""

    def __init__(self, directory: Path, cloud: Host, edges: list[Host], internet: Host) -> None:
        self.directory, self.cloud, self.internet = directory, cloud, internet
        self.edges = dict(zip(TENANTS, edges, strict=True))
        config = directory / "cloud.yaml"
        config.write_text(
            "kind: CloudCore\nadvertise: [203.0.113.1]\ntenants: [red, blue]\ntun: {tenant: red}\npublishing: {defaultTenant: red}\n"
            f"paths: {{state: {directory}/state, run: {directory}/run}}\n"
        )
        self.socket = directory / "run/cloud.sock"
        cloud.spawn(*KUBEEDGE, "cloud", "--config", str(config), log=directory / "cloud.log")
        until(self.socket.exists, what="the cloud's socket")
        for tenant, edge in self.edges.items():
            self._join(tenant, edge)
        for tenant in TENANTS:
            until(lambda t=tenant: " Ready " in self.kubectl(t, "get", "nodes"), what=f"{tenant}'s node")

    def _join(self, tenant: str, edge: Host) -> None:
        root = self.directory / tenant
        images.build(_made(root / "var/lib/kubeedge/edge/images/preload") / "demo.tar", "docker.io/library/demo:1")
        config = _made(root / "etc/kubeedge") / "kubeedge.yaml"
        paths = {
            "state": "var/lib/kubeedge/edge", "run": "run/kubeedge", "pki": "etc/kubeedge/pki", "logs": "var/log/pods"
        }  # fmt: skip
        config.write_text(
            json.dumps(
                {
                    "kind": "EdgeCore",
                    "paths": {name: str(root / path) for name, path in paths.items()},
                    "modules": {"appengine": {"cgroupPrefix": f"{PREFIX}-{tenant}", "evictionHard": ["none"]}},
                }
            )
        )
        token = self.cloud.run(
            *KUBEEDGE, "token", "create", "--tenant", tenant, "--node", "edge1", "--socket", str(self.socket)
        )
        edge.run(
            *KUBEEDGE, "join", "--token-file", "-", "--name", "edge1", "--root-dir", str(root), "--no-start",
            "203.0.113.1", input=token,
        )  # fmt: skip
        edge.spawn(*KUBEEDGE, "edge", "--root-dir", str(root), log=self.directory / f"{tenant}.log")

    def kubectl(self, tenant: str, *argv: str, input: str | None = None, check: bool = True) -> str:
        config = self.directory / "state" / f"kubeconfig-{tenant}"
        return self.cloud.run(
            "env", f"HOME={self.directory}", KUBECTL, f"--kubeconfig={config}", *argv, input=input, check=check
        )

    def pod(self, tenant: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl(tenant, "get", "pod", "web", "-o", "json"))
        return found


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))  # not tmp_path: the path of a socket must be short
    try:
        with edges_behind_nat(2) as (_, cloud, edges, _, internet):
            site = Site(directory, cloud, edges, internet)
            for tenant in TENANTS:
                site.kubectl(tenant, "apply", "-f", "-", input=web(tenant))
            for tenant in TENANTS:
                site.kubectl(tenant, "wait", "--for=condition=Ready", "pod/web", "--timeout=80s")
            yield site
            for edge in edges:
                edge.power_cut()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        control_groups.remove(f"{PREFIX}-*")


def test_each_tenant_has_its_own_objects_under_the_same_names(site: Site) -> None:
    red, blue = site.pod("red"), site.pod("blue")
    assert red["metadata"]["uid"] != blue["metadata"]["uid"]
    assert red["status"]["podIP"] == blue["status"]["podIP"]  # the same addresses, on purpose
    site.kubectl("red", "create", "configmap", "secret-plan", "--from-literal=a=b")
    with pytest.raises(RuntimeError, match="NotFound"):
        site.kubectl("blue", "get", "configmap", "secret-plan")
    names = site.kubectl("blue", "get", "configmaps,secrets,pods,nodes,events", "-A", "-o", "name")
    assert "secret-plan" not in names and names.count("node/") == 1


def test_a_deletion_in_one_tenant_leaves_the_other_alone(site: Site) -> None:
    site.kubectl("red", "create", "configmap", "same", "--from-literal=a=red")
    site.kubectl("blue", "create", "configmap", "same", "--from-literal=a=blue")
    site.kubectl("red", "delete", "configmap", "same")
    assert "blue" in site.kubectl("blue", "get", "configmap", "same", "-o", "yaml")


def test_the_same_url_path_leads_each_to_its_own(site: Site) -> None:
    for tenant in TENANTS:
        url = f"http://203.0.113.1:8080/{tenant}/edge1/web/"
        until(
            lambda u=url, t=tenant: site.internet.run("curl", "-s", "--max-time", "3", u, check=False) == f"{t}\n",
            what=f"{tenant}'s page",
        )


def gateway(hostname: str, *, name: str = "shop") -> str:
    """A Gateway with an HTTPRoute for the host, as a user writes them."""
    api, redirect = "gateway.networking.k8s.io/v1", {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/new"}}
    rules = [
        {"backendRefs": [{"name": "web", "port": 8080}]},
        {
            "matches": [{"path": {"value": "/sub"}}],
            "filters": [
                {
                    "type": "URLRewrite",
                    "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}},
                },
                {
                    "type": "ResponseHeaderModifier",
                    "responseHeaderModifier": {"set": [{"name": "x-from", "value": "route"}]},
                },
            ],
            "backendRefs": [{"name": "web", "port": 8080}],
        },
        {
            "matches": [{"path": {"value": "/old"}}],
            "filters": [{"type": "RequestRedirect", "requestRedirect": redirect}],
        },
    ]
    spec = {"gatewayClassName": "kubeedge", "listeners": [{"name": "web", "port": 80, "protocol": "HTTP"}]}
    objects = [
        {"kind": "GatewayClass", "metadata": {"name": "kubeedge"}, "spec": {"controllerName": "kubeedge.io/gateway"}},
        {"kind": "Gateway", "metadata": {"name": "edge"}, "spec": spec},
        {
            "kind": "HTTPRoute",
            "metadata": {"name": name},
            "spec": {"parentRefs": [{"name": "edge"}], "hostnames": [hostname], "rules": rules},
        },
    ]
    items = [{"apiVersion": api, **obj} for obj in objects]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def ingress(hostname: str) -> str:
    backend = {"service": {"name": "web", "port": {"number": 8080}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    rule = {"http": {"paths": paths}, **({"host": hostname} if hostname else {})}
    return json.dumps(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": "old"},
            "spec": {"ingressClassName": "kubeedge", "rules": [rule]},
        }
    )


def test_gateways_and_ingresses_lead_host_names_to_pods(site: Site) -> None:
    """On the cloud's web listener, beside published services, whose fast path lets go of host names that a tenant has."""

    def ask(host: str, path: str = "/") -> str:
        argv = ("curl", "-s", "--max-time", "20", "-H", f"Host: {host}", "-w", " %{http_code} %{redirect_url}")
        return site.internet.run(*argv, f"http://203.0.113.1:8080{path}", check=False).strip()

    def reasons(tenant: str) -> dict[str, str]:
        found = json.loads(site.kubectl(tenant, "get", "httproute", "shop", "-o", "json"))
        parents = (found.get("status") or {}).get("parents") or [{"conditions": []}]
        return {c["type"]: c["reason"] for c in parents[0]["conditions"]}

    published = "/red/edge1/web/"
    until(lambda: ask("203.0.113.1:8080", published) == "red\n 200", what="the published page")
    site.kubectl("red", "apply", "-f", "-", input=gateway("shop.example"))
    until(lambda: ask("shop.example") == "red\n 200", what="the page of the host")
    until(lambda: reasons("red") == {"Accepted": "Accepted", "ResolvedRefs": "ResolvedRefs"}, what="its status")
    assert ask("SHOP.example.:8080", "/sub/index.html") == "red\n 200"
    assert ask("shop.example", "/old?q") == "302 http://shop.example/new?q"
    # paths of a host that somebody has are its own, and on every other host the published services are as before
    assert ask("shop.example", published).endswith(" 404") and ask("203.0.113.1:8080", published) == "red\n 200"
    # the other tenant comes second, and says so
    site.kubectl("blue", "apply", "-f", "-", input=gateway("shop.example"))
    until(lambda: reasons("blue").get("Accepted") == "HostnameTaken", what="the refusal")
    assert ask("shop.example") == "red\n 200"
    # Ingress: by a name, and without one for the tenant that the operator has named
    site.kubectl("blue", "apply", "-f", "-", input=ingress("blue.example"))
    site.kubectl("red", "apply", "-f", "-", input=ingress(""))
    until(lambda: ask("blue.example") == "blue\n 200", what="the page of the Ingress")
    until(lambda: ask("nobody.example") == "red\n 200", what="the page of every other host")
    until(lambda: ask("203.0.113.1:8080", "/blue/edge1/web/") == "blue\n 200", what="the other published page")
    until(lambda: "203.0.113.1" in site.kubectl("red", "get", "gateway,ingress"), what="the address")
    shown = site.kubectl("red", "get", "gatewayclass,gateway,httproute,ingress")
    assert "203.0.113.1" in shown and "kubeedge.io/gateway" in shown
    # what the first lets go of, the second has
    site.kubectl("red", "delete", "httproute", "shop")
    until(lambda: ask("shop.example") == "blue\n 200", what="the host at its second tenant")
    site.kubectl("red", "delete", "gateway/edge", "ingress/old")
    site.kubectl("blue", "delete", "gateway/edge", "ingress/old", "httproute/shop")
    until(lambda: "error" in ask("nobody.example"), what="the end of the last Ingress")


def test_from_an_edge_the_other_tenant_does_not_exist(site: Site) -> None:
    def ask(path: str) -> str:
        argv = ("curl", "-s", "--max-time", "5", "-w", " %{http_code}", f"http://127.0.0.1:10080/{path}")
        return site.edges["red"].run(*argv, check=False)

    until(lambda: ask("red/edge1/web/") == "red\n 200", what="the own page")
    other, nobody = ask("blue/edge1/web/"), ask("green/edge1/web/")
    assert other.endswith(" 404") and other == nobody.replace("green", "blue")


def test_packets_stay_with_their_tenant(site: Site) -> None:
    red, blue = site.edges["red"], site.edges["blue"]
    ping = ("ping", "-c1", "-W1", "100.64.255.254")
    until(lambda: "1 received" in red.run(*ping, check=False), what="the cloud's TUN, which is red's")
    assert "0 received" in blue.run("ping", "-c2", "-i0.2", "-W0.5", "100.64.255.254", check=False)
    assert "1 received" in site.cloud.run("ping", "-c1", "-W20", site.pod("red")["status"]["podIP"])


def test_logs_come_from_the_own_node(site: Site) -> None:
    assert site.kubectl("red", "logs", "web") == site.kubectl("blue", "logs", "web") == ""
    status = json.loads(site.cloud.run(*KUBEEDGE, "status", "-o", "json", "--socket", str(site.socket)))
    assert sorted((n["tenant"], n["node"]) for n in status["nodes"]) == [("blue", "edge1"), ("red", "edge1")]


def test_a_node_that_wants_all_the_memory_of_l4_harms_its_own_tenant_at_most(site: Site) -> None:
    """Overlapping pieces beyond holes, and half-open connections: pages and logs of the other tenant are as before."""
    edge, root = site.edges["red"], site.directory / "bad"
    token = site.cloud.run(
        *KUBEEDGE, "token", "create", "--tenant", "red", "--node", "bad", "--socket", str(site.socket)
    )
    edge.run(
        *KUBEEDGE, "join", "--token-file", "-", "--name", "bad", "--root-dir", str(root), "--no-start", "203.0.113.1",
        input=token,
    )  # fmt: skip
    log = site.directory / "bad.log"
    cloud = site.cloud.process(b"cloud.yaml")
    before = resident(cloud)
    attacker = edge.spawn(
        sys.executable, "-m", "tests.kit.l4_attacker", str(root), "4", log=log, env={"PYTHONPATH": str(ROOT)}
    )
    try:
        until(lambda: "round 3" in log.read_text(), timeout=240, what="the attack", interval=0.1)
        url = "http://203.0.113.1:8080/blue/edge1/web/"
        for _ in range(20):
            said = site.internet.run("curl", "-s", "--max-time", "20", "-w", "%{http_code}", url, check=False)
            assert said == "blue\n200"
            assert site.kubectl("blue", "logs", "web") == ""
        assert resident(cloud) - before < 64 * 1024
    finally:
        edge.signal(attacker, signal.SIGKILL)


def resident(pid: int) -> int:
    """KiB."""
    (line,) = (x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS:"))
    return int(line.split()[1])
