"""The kubelet port of an edge node, attacked: by nobody, a user without rights, another node, a token that is none; each verb and protocol."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.kit.cluster.site import Site
from tests.kit.topology import until
from tests.kubernetes.workloads import pod, wait_ready

pytestmark = pytest.mark.root

#: each request on a connection of its own; prints the first line of each answer, or "closed", or what TLS said
CLIENT = """
import base64, json, socket, ssl, sys
asked = json.load(sys.stdin)
found = []
for data in asked["requests"]:
    context = ssl.create_default_context(cafile=asked["ca"])
    if asked["alpn"]:
        context.set_alpn_protocols(asked["alpn"])
    if asked["cert"]:
        context.load_cert_chain(*asked["cert"])
    try:
        with socket.create_connection((asked["host"], asked["port"]), 30) as plain:
            with context.wrap_socket(plain, server_hostname=asked["host"]) as c:
                try:
                    c.sendall(base64.b64decode(data))
                except OSError:
                    pass  # it has answered before it has read all
                answer = c.recv(4096)
                found.append(answer.split(b"\\r\\n")[0].decode("latin-1") or "closed")
    except OSError as exc:
        found.append("timeout" if isinstance(exc, TimeoutError) else "closed")
json.dump(found, sys.stdout)
"""
VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
EXEC = "exec/default/target/c?command=id&output=1"
PATHS = (
    "/", "/pods", "/runningpods/", "/configz", "/healthz", "/spec/", "/metrics", "/metrics/cadvisor", "/metrics/resource",
    "/metrics/probes", "/stats/summary", "/containerLogs/default/target/c", "/logs/", "/debug/pprof/", "/debug/flags/v",
    "/checkpoint/default/target/c", f"/{EXEC}", f"//{EXEC}", f"/%65xec/{EXEC[5:]}", "/attach/default/target/c?output=1",
    "/portForward/default/target", "/run/default/target/c?cmd=id", f"/metrics/../{EXEC}", f"/metrics/%2e%2e/{EXEC}",
)  # fmt: skip
MAIN = ("/pods", "/metrics", f"/{EXEC}")  # with every verb; the others with the two that a kubelet has
WEBSOCKET = (
    "connection: Upgrade", "upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-protocol: v5.channel.k8s.io",
)  # fmt: skip
SPDY = ("connection: Upgrade", "upgrade: SPDY/3.1", "x-stream-protocol-version: v4.channel.k8s.io")
#: what an API server's front proxy, or an administrator, would say
FORGED = (
    "x-remote-user: admin",
    "x-remote-group: system:masters",
    "impersonate-user: admin",
    "impersonate-group: system:masters",
)


def request(verb: str, path: str, *headers: str) -> bytes:
    return "\r\n".join([f"{verb} {path} HTTP/1.1", "host: node", *headers, "", ""]).encode()


#: no request of HTTP/1.1, or too much of one
BROKEN = [
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9) + b"\x04" + bytes(100),
    request("GET", "/pods", "upgrade: h2c", "connection: Upgrade, HTTP2-Settings", "http2-settings: AAMAAABkAAQAAP__"),
    request("GET", "/pods", "x-big: " + "a" * 1_000_000),
    request("GET", "/pods", *(f"x-{n}: {n}" for n in range(5_000))),
    request("GET", "/" + "a" * 200_000),
    request("POST", f"/{EXEC}", "content-length: 5", "transfer-encoding: chunked")
    + b"0\r\n\r\nGET /pods HTTP/1.1\r\n\r\n",
    request("GET", "/pods\x00"),
    request("GET", "http://edge2/pods"),
    b"GET /pods\r\n\r\n",
    b"\x00" * 4096,
]


@dataclass
class Port:
    """The kubelet port of edge1, as any machine in the network reaches it."""

    site: Site

    def ask(
        self,
        requests: Sequence[bytes],
        *,
        token: str = "",
        cert: Sequence[str] = (),
        alpn: Sequence[str] = (),
    ) -> list[str]:
        """The status of each answer; "closed"."""
        status = self.site.cluster.json("get", "node", "edge1")["status"]
        line = f"\r\nauthorization: Bearer {token}\r\n".encode()
        given = [data.replace(b"\r\n", line, 1) if token else data for data in requests]
        asked = {
            "requests": [base64.b64encode(data).decode() for data in given],
            "ca": str(self.site.cluster.identities.kubelets.ca),
            "host": status["addresses"][0]["address"], "port": status["daemonEndpoints"]["kubeletEndpoint"]["Port"],
            "cert": list(cert), "alpn": list(alpn),
        }  # fmt: skip
        out = self.site.internet.run("/usr/bin/python3", "-c", CLIENT, input=json.dumps(asked), timeout=300)
        return [line.split(" ")[1] if line.startswith("HTTP/1.") else line for line in json.loads(out)]


@pytest.fixture(scope="module")
def port(site: Site) -> Iterator[Port]:
    """With a pod that is the target."""
    site.cluster.apply(pod("target"))
    wait_ready(site, "target")
    yield Port(site)
    # whoever asked what: the API server has its way
    assert site.cluster.kubectl("exec", "target", "--", "sh", "-c", "echo inside") == "inside\n"
    site.cluster.kubectl("delete", "pod", "target", timeout=150)


def everything() -> list[bytes]:
    plain = [request(verb, path) for path in PATHS for verb in (VERBS if path in MAIN else ("GET", "POST"))]
    sessions = [
        request(verb, path, *upgrade, *FORGED)
        for upgrade in (WEBSOCKET, SPDY)
        for verb in ("GET", "POST")
        for path in PATHS
        if EXEC[5:] in path or "attach" in path or "Forward" in path
    ]
    return [*plain, *sessions, *(request("GET", path, *FORGED) for path in PATHS)]


def named(requests: Sequence[bytes], answers: Sequence[str], allowed: set[str]) -> list[tuple[str, str]]:
    """What was answered otherwise than that."""
    asked = [data.split(b"\r\n")[0].decode("latin-1")[:100] for data in requests]
    return [pair for pair in zip(asked, answers, strict=True) if pair[1] not in allowed]


def account(port: Port, name: str) -> str:
    port.site.cluster.kubectl("create", "serviceaccount", name)
    return port.site.cluster.kubectl("create", "token", name).strip()


def test_without_credentials_nothing_is_answered(port: Port) -> None:
    asked = everything()
    assert named(asked, port.ask(asked), {"401", "405"}) == []
    forged = account(port, "forged")[:-6] + "AAAAAA"
    sample = asked[::9]
    assert named(sample, port.ask(sample, token=forged), {"401", "405"}) == []


def test_a_user_without_rights_is_forbidden_everything(port: Port) -> None:
    asked, token = everything(), account(port, "passer-by")
    assert named(asked, port.ask(asked, token=token), {"403", "405"}) == []


def test_who_may_read_figures_may_do_nothing_else(port: Port) -> None:
    """No way leads from a path that is allowed to one that is not."""
    cluster, token = port.site.cluster, account(port, "figures")
    cluster.kubectl("create", "clusterrole", "figures", "--verb=get", "--resource=nodes/metrics")
    cluster.kubectl(
        "create", "clusterrolebinding", "figures", "--clusterrole=figures", "--serviceaccount=default:figures"
    )
    figures = [request("GET", "/metrics/resource")]
    until(lambda: port.ask(figures, token=token) == ["200"], timeout=120, what="the role is known", interval=5.0)
    asked = [
        data
        for data in everything()
        if not data.startswith(b"GET /metrics HTTP") and b"metrics" in data.split(b"\r\n")[0]
    ]
    inner = [data for data in asked if EXEC[5:].encode() in data]
    assert named(inner, port.ask(inner, token=token), {"403", "404", "405"}) == []
    others = [data for data in everything() if b"metrics" not in data.split(b"\r\n")[0]]
    assert named(others, port.ask(others, token=token), {"403", "405"}) == []


def test_a_certificate_of_another_authority_ends_in_the_handshake(port: Port) -> None:
    """That of another node of this very cloud, of a kubelet's serving certificate, and one that names itself as the API server."""
    site, identities = port.site, port.site.cluster.identities
    pki = site.directory / "edge2/etc/kubeedge/pki"
    serving = identities.kubelets.issue(
        "kube-apiserver-kubelet-client", groups=["system:masters"], file="as-api-server"
    )
    for cert, key in ((pki / "node.crt", pki / "node.key"), (serving.cert, serving.key)):
        assert port.ask([request("GET", "/pods")] * 2, cert=[str(cert), str(key)]) == ["closed"] * 2
    proxy = identities.to_extensions  # the front proxy's: it may say who a user is at an API server, not here
    assert port.ask([request("GET", "/pods", *FORGED)], cert=[str(proxy.cert), str(proxy.key)]) == ["closed"]


def test_what_is_no_request_is_refused_and_costs_nobody_else_anything(port: Port) -> None:
    for alpn in ((), ("h2",), ("h2", "http/1.1")):
        answers = port.ask(BROKEN, alpn=alpn)
        assert named(BROKEN, answers, {"400", "401", "405", "413", "414", "431", "501", "505", "closed"}) == []
    found: dict[str, Any] = port.site.cluster.json("get", "pod", "target")
    assert found["status"]["containerStatuses"][0]["restartCount"] == 0
