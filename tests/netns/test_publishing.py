"""Publishing as people use it: a real cloud, two real edge agents behind NAT, ordinary services, ordinary tools.

internet ── curl, websockets, raw sockets ── cloud :8080 ══ edge1: mirror, streams, websocket
                                             edge2 127.0.0.1:10080 ══╝
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.topology import DEFAULT_TIMEOUT, Host, descendants, edges_behind_nat, until

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
KUBEEDGE = [sys.executable, "-m", "kubeedge"]
CLOUD = "http://203.0.113.1:8080"
MB = 1024 * 1024
LOCAL = "http://127.0.0.1:10080"


RAW = """
import json, socket, sys, time
told = json.load(sys.stdin)
with socket.create_connection(("203.0.113.1", 8080), timeout=60) as client:
    got = b""
    try:
        for piece in told["pieces"]:
            client.sendall(piece.encode("latin-1"))
            time.sleep(told["pause"])
        while data := client.recv(65536):
            got += data
    except ConnectionResetError:
        pass
print(got.hex())
"""
SLOW = """
import socket, sys, time
clients = [socket.create_connection(("203.0.113.1", 8080)) for _ in range(200)]
for client in clients:
    client.sendall(b"GET /default/edge1/mirror/ HTTP/1.1\\r\\nHost: a\\r\\n")
print("ready", flush=True)
while True:
    for client in clients:
        client.sendall(b"X: y\\r\\n")
    time.sleep(0.5)
"""
AGAIN = """
import socket, sys
with socket.create_connection(("203.0.113.1", 8080), timeout=60) as client:
    for line in sys.stdin:
        client.sendall(f"GET {line.strip()} HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n".encode())
        head = b""
        while not head.endswith(b"\\r\\n\\r\\n"):
            piece = client.recv(1)
            head += piece
            if not piece:
                break
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\\r\\n")[0] or 0)
        while length:
            length -= len(client.recv(length))
        print((head.split(b" ") + [b"", b"000"])[1].decode(), flush=True)
"""
WEBSOCKET = """
import sys
from websockets.sync.client import connect
with connect(sys.argv[1], max_size=None, proxy=None) as socket:
    for message in ("hello", b"bytes", "x" * 300_000, ""):
        socket.send(message)
        assert socket.recv(timeout=60) == message
    assert socket.ping().wait(60)
print("echoed")
"""

PUBLISHING = """
publishing: {services: ["hello=127.0.0.1:9001", "other/theirs=127.0.0.1:9001", "dead=127.0.0.1:9099"]}
"""


class Site:
    def __init__(self, directory: Path, cloud: Host, edges: list[Host], internet: Host) -> None:
        self.directory, self.cloud, self.edges, self.internet = directory, cloud, edges, internet
        self.socket = directory / "run/cloud.sock"
        self.start_cloud(PUBLISHING)
        self.agents = [self._join(n, edge) for n, edge in enumerate(edges, 1)]
        for host, ports in ((edges[0], ("8001", "8002", "8003")), (cloud, ("9001", "9002", "9003"))):
            host.spawn(
                sys.executable, "-m", "tests.kit.web_services", *ports,
                log=directory / f"services{ports[0]}.log", env={"PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        for name, port in (("mirror", "8001"), ("streams", "8002"), ("ws", "8003"), ("gone", "8099")):
            self.publish(name, port)
        until(
            lambda: (
                self.status(internet, f"{CLOUD}/default/edge1/mirror/") == 200
                and self.status(edges[1], f"{LOCAL}/default/edge1/mirror/") == 200
                and self.status(edges[1], f"{LOCAL}/default/cloud/hello/") == 200
            ),
            what="the first page",
        )

    def start_cloud(self, publishing: str) -> None:
        config = self.directory / "cloud.yaml"
        config.write_text(
            "kind: CloudCore\nadvertise: [203.0.113.1]\ntenants: [default, other]\ntun: {enable: false}\n"
            f"paths: {{state: {self.directory}/state, run: {self.directory}/run}}\n{publishing}"
        )
        log = self.directory / "cloud.log"
        self.cloud_process = self.cloud.spawn(*KUBEEDGE, "cloud", "--config", str(config), log=log)
        until(self.socket.exists, what="the cloud's socket")

    def restart_cloud(self, publishing: str) -> None:
        self.cloud.stop(self.cloud_process)
        self.start_cloud(publishing)

    def _join(self, n: int, edge: Host) -> Any:
        root = self.directory / f"edge{n}"
        config = root / "etc/kubeedge/kubeedge.yaml"
        config.parent.mkdir(parents=True)
        paths = {
            "state": "var/lib/kubeedge/edge", "run": "run/kubeedge", "pki": "etc/kubeedge/pki", "logs": "var/log/pods"
        }  # fmt: skip
        settings = {
            "kind": "EdgeCore",
            "paths": {name: str(root / path) for name, path in paths.items()},
            "modules": {"appengine": {"enable": False}, "publishing": {"timeout": 2}},
        }
        config.write_text(json.dumps(settings))
        token = self.cloud.run(*KUBEEDGE, "token", "create", "--node", f"edge{n}", "--socket", str(self.socket))
        edge.run(
            *KUBEEDGE, "join", "--token-file", "-", "--name", f"edge{n}", "--root-dir", str(root), "--no-start",
            "203.0.113.1", input=token,
        )  # fmt: skip
        process = edge.spawn(*KUBEEDGE, "edge", "--root-dir", str(root), log=self.directory / f"edge{n}.log")
        until((root / "run/kubeedge/edge.sock").exists, what=f"the socket of edge{n}")
        return process

    def publish(self, *argv: str) -> str:
        return self.edges[0].run(
            *KUBEEDGE, "publish", *argv, "--socket", str(self.directory / "edge1/run/kubeedge/edge.sock")
        )

    def raw(self, *pieces: bytes, pause: float = 0.0) -> bytes:
        """What comes back from the cloud's web port for these bytes, to the end of the connection."""
        told = json.dumps({"pieces": [piece.decode("latin-1") for piece in pieces], "pause": pause})
        return bytes.fromhex(self.internet.run(sys.executable, "-c", RAW, input=told))

    def curl(self, host: Host, *argv: str, check: bool = False, timeout: float = DEFAULT_TIMEOUT) -> str:
        return host.run("curl", "-s", "--max-time", "60", *argv, check=check, timeout=timeout)

    def begin(self, host: Host, size: int, *argv: str) -> bytes:
        """The first bytes of a body that has no end."""
        command = host.command("curl", "-s", "--max-time", "60", *argv)
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            body = process.stdout.read(size)
            host.signal(process, signal.SIGKILL)
        return body

    def status(self, host: Host, *argv: str) -> int:
        return int(self.curl(host, "-o", "/dev/null", "-w", "%{http_code}", *argv) or 0)

    def answer(self, host: Host, *argv: str) -> tuple[int, Any]:
        """Status and JSON."""
        body, _, status = self.curl(host, "-w", " %{http_code}", *argv).rpartition(" ")
        return int(status), json.loads(body or "null")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix=f"kbpub{os.getpid()}"))  # not tmp_path: the path of a socket must be short
    try:
        with edges_behind_nat(2) as (_, cloud, edges, _, internet):
            yield Site(directory, cloud, edges, internet)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def test_a_page_looks_the_same_from_outside_and_from_another_node(site: Site) -> None:
    status, seen = site.answer(site.internet, f"{CLOUD}/default/edge1/mirror/a%20b?c=d")
    assert (status, seen["target"], seen["headers"]["x-forwarded-for"]) == (200, "/a%20b?c=d", "203.0.113.200")
    assert seen["headers"]["x-forwarded-prefix"] == "/default/edge1/mirror"
    status, seen = site.answer(site.edges[1], f"{LOCAL}/default/edge1/mirror/a")
    assert (status, seen["target"], seen["headers"]["x-forwarded-for"]) == (200, "/a", "127.0.0.1")


def test_a_service_of_the_tenant_exists_for_its_nodes_alone(site: Site) -> None:
    site.publish("inner", "8001", "--access", "tenant")
    assert "inner" in site.publish("--list") and "tenant" in site.publish("--list")
    for edge in site.edges:
        assert site.status(edge, f"{LOCAL}/default/edge1/inner/") == 200
    outside = site.answer(site.internet, f"{CLOUD}/default/edge1/inner/")
    nobody = site.answer(site.internet, f"{CLOUD}/default/edge1/other/")
    assert outside[0] == nobody[0] == 404
    assert json.dumps(outside[1]).replace("inner", "other") == json.dumps(nobody[1])
    assert site.status(site.internet, "-H", "X-Forwarded-For: 100.64.0.2", f"{CLOUD}/default/edge1/inner/") == 404


def test_a_token_opens_from_everywhere_until_it_is_revoked(site: Site) -> None:
    told = site.publish("guarded", "8001", "--access", "token")
    token = told.split()[-1]
    second = site.publish("guarded", "--new-token").strip()
    assert token != second and token not in site.publish("--list")
    url = f"{CLOUD}/default/edge1/guarded/x"
    head = site.curl(site.internet, "-i", url)
    assert " 401 " in head.splitlines()[0] and 'www-authenticate: Bearer realm="kubeedge"' in head
    assert site.status(site.edges[1], f"{LOCAL}/default/edge1/guarded/") == 401
    assert site.status(site.internet, "-H", "Authorization: Bearer wrong", url) == 401
    for one in (token, second):
        status, seen = site.answer(site.internet, "-H", f"Authorization: Bearer {one}", url)
        assert status == 200 and "authorization" not in seen["headers"]
    status, seen = site.answer(
        site.edges[1], "-H", f"X-KubeEdge-Token: {token}", "-u", "me:you", f"{LOCAL}/default/edge1/guarded/"
    )
    assert status == 200 and seen["headers"]["authorization"].startswith("Basic ")
    assert "x-kubeedge-token" not in seen["headers"]
    site.publish("guarded", "--revoke-tokens")
    assert site.status(site.internet, "-H", f"Authorization: Bearer {token}", url) == 401
    for log in site.directory.glob("*.log"):
        assert token not in log.read_text(errors="replace")
    assert token.encode() not in b"".join(
        p.read_bytes() for p in site.directory.glob("edge1/var/lib/kubeedge/edge/*.db*")
    )


class Client:
    """One connection of a web client, kept: a status for each path."""

    def __init__(self, site: Site) -> None:
        self._process = subprocess.Popen(
            site.internet.command(sys.executable, "-c", AGAIN),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(90)
        self._process.stdout.close()

    def status(self, path: str) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(path, file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())


def _fast_requests(site: Site) -> int:
    text = site.curl(site.cloud, "http://127.0.0.1:10003/metrics")
    found = re.search(r"(?m)^kubeedge_publishing_fast_requests_total ([0-9]+)$", text)
    assert found is not None
    return int(found[1])


def test_what_is_not_public_any_more_is_so_at_once_on_connections_that_are_kept_too(site: Site) -> None:
    site.publish("open", "8001")
    path = "/default/edge1/open/"
    with Client(site) as kept:
        before = _fast_requests(site)
        assert [kept.status(path) for _ in range(5)] == [200] * 5
        until(lambda: kept.status(path) == 200 and _fast_requests(site) > before, what="the fast path")
        for access, status in (("tenant", 404), ("public", 200), ("token", 401), ("public", 200)):
            site.publish("open", "--access", access)
            assert [kept.status(path) for _ in range(3)] == [status] * 3, access
        site.publish("open", "--remove")
        assert kept.status(path) == 404


# -- all kinds of exchanges ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("from_outside", [True, False])
def test_websockets_talk_both_ways(site: Site, from_outside: bool) -> None:
    host, where = (site.internet, CLOUD) if from_outside else (site.edges[1], LOCAL)
    url = where.replace("http", "ws") + "/default/edge1/ws/"
    assert host.run(sys.executable, "-c", WEBSOCKET, url) == "echoed\n"


def test_events_and_pictures_arrive_while_they_are_made(site: Site) -> None:
    events = site.begin(site.internet, 200, "-N", f"{CLOUD}/default/edge1/streams/events").decode()
    assert events.startswith("id: 0\ndata: tick\n\nid: 1\n") and events.count("data: tick") > 5
    film = site.begin(site.edges[1], 150_000, "-D", "/dev/stderr", f"{LOCAL}/default/edge1/streams/video")
    pictures = film.split(b"--picture\r\n")[1:-1]  # the last one was cut
    assert len(pictures) > 5
    for n, picture in enumerate(pictures):
        assert picture.partition(b"\r\n\r\n")[2] == n.to_bytes(4, "big") * 5000 + b"\r\n"


def _peak(process: Any) -> int:
    """Bytes of the largest resident set since the last call, of the agent behind nsenter; and forget it."""
    pid = descendants(process.pid)[0]
    status = Path(f"/proc/{pid}/status").read_text()
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def test_64_mb_go_up_and_down_chunked_and_leave_no_memory_in_either_proxy(site: Site) -> None:
    size, processes = 64 * MB, (site.cloud_process, site.agents[0])
    block = bytes(range(256)) * 4096
    whole = site.directory / "whole"
    whole.write_bytes(block * (size // len(block)))
    digest = hashlib.sha256(whole.read_bytes()).hexdigest()
    for process in processes:
        _peak(process)
    before = [_peak(process) for process in processes]
    url = f"{CLOUD}/default/edge1"
    status, seen = site.answer(site.internet, "-T", str(whole), "-H", "Transfer-Encoding: chunked", f"{url}/mirror/")
    assert (status, seen["length"], seen["sha256"]) == (200, size, digest)
    back = site.directory / "back"
    site.curl(site.internet, "-o", str(back), f"{url}/streams/big/{size}", check=True)
    assert hashlib.sha256(back.read_bytes()).hexdigest() == digest
    growth = [_peak(process) - then for process, then in zip(processes, before, strict=True)]
    print(
        f"growth while {size // MB} MB went up and down: cloud {growth[0] / MB:.1f} MB, agent {growth[1] / MB:.1f} MB"
    )
    assert max(growth) < 16 * MB
    whole.unlink()
    back.unlink()


def test_an_upload_that_is_refused_is_never_sent(site: Site) -> None:
    body = site.directory / "body"
    body.write_bytes(bytes(3_000_000))
    ask = ("-H", "Expect: 100-continue", "--expect100-timeout", "20", "-T", str(body))
    status, seen = site.answer(site.internet, *ask, f"{CLOUD}/default/edge1/mirror/")
    assert (status, seen["length"]) == (200, 3_000_000)
    for path, code in (("mirror/teapot", 418), ("none/", 404)):
        url = f"{CLOUD}/default/edge1/{path}"
        said = site.curl(site.internet, "-o", "/dev/null", "-w", "%{http_code} %{size_upload}", *ask, url)
        assert said == f"{code} 0"


def test_early_hints_and_absolute_paths(site: Site) -> None:
    hints = site.curl(site.internet, "-i", f"{CLOUD}/default/edge1/mirror/hints")
    assert hints.startswith("HTTP/1.1 103") and "link: </style.css>; rel=preload" in hints.lower()
    for host, where in ((site.internet, CLOUD), (site.edges[1], LOCAL)):
        page = f"{where}/default/edge1/mirror/page"
        assert site.curl(host, "-L", "-e", page, f"{where}/static/x.css").startswith("body {")
        assert site.status(host, "-L", f"{where}/static/x.css") == 404
        assert site.status(host, "-L", "-e", page.replace("default", "other"), f"{where}/static/x.css") == 404


def test_requests_are_pipelined_on_one_connection(site: Site) -> None:
    wire = b"".join(
        b"GET /default/edge1/mirror/%d HTTP/1.1\r\nHost: a\r\n%s\r\n"
        % (n, b"Connection: close\r\n" if n == 19 else b"")
        for n in range(20)
    )
    answer = site.raw(wire[:333], wire[333:], pause=0.1)
    assert [int(n) for n in re.findall(rb'"target": "/([0-9]+)"', answer)] == list(range(20))


def test_a_guarded_service_stays_so_between_requests_to_open_ones(site: Site) -> None:
    site.publish("locked", "8001", "--access", "token")
    site.publish("inside", "8001", "--access", "tenant")
    with Client(site) as kept:
        assert [kept.status("/default/edge1/mirror/") for _ in range(3)] == [200] * 3
    names = ["mirror", "locked", "mirror", "inside", "mirror"] * 3
    wire = b"".join(b"GET /default/edge1/%s/ HTTP/1.1\r\nHost: a\r\n\r\n" % name.encode() for name in names)
    answer = site.raw(wire + GET + b"Connection: close\r\n\r\n")
    told = [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answer)]
    assert told == [200, 401, 200, 404, 200] * 3 + [200]


GET = b"GET /default/edge1/mirror/ HTTP/1.1\r\nHost: a\r\n"
POST = GET.replace(b"GET", b"POST", 1)
SECOND = GET + b"Connection: close\r\n\r\n"


@pytest.mark.parametrize(
    "wire",
    [
        POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
        POST + b"Content-Length: 4, 5\r\n\r\nabcd",
        POST + b"Content-Length: 0x4\r\n\r\nabcd",
        POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding\x0b: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        POST + b"X: y\r\n Transfer-Encoding: chunked\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        POST.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        GET + b"X: y\nConnection: close\r\n\r\n",
        GET + b"X: y\rZ: q\r\n\r\n",
        GET + b"X: a\0b\r\n\r\n",
        GET + b"Host: b\r\n\r\n",
        GET.replace(b"Host: a\r\n", b"") + b"\r\n",
        GET.replace(b"GET ", b"GET  ") + b"\r\n",
        b" " + GET + b"\r\n",
        GET.replace(b"\r\n", b"\n") + b"\n",
    ],
)
def test_no_request_hides_in_another(site: Site, wire: bytes) -> None:
    answer = site.raw(wire + SECOND)
    assert re.match(rb"HTTP/1\.1 (400|501) ", answer), answer[:200]
    assert answer.count(b"HTTP/1.1 ") == 1  # and what came behind it was thrown away


def test_slow_clients_take_nothing_from_the_others(site: Site) -> None:
    site.internet.spawn(sys.executable, "-c", SLOW, log=site.directory / "slow.log")
    until(lambda: "ready" in (site.directory / "slow.log").read_text(), what="200 slow clients")
    for _ in range(5):
        assert site.status(site.internet, f"{CLOUD}/default/edge1/mirror/") == 200
    assert site.status(site.edges[1], f"{LOCAL}/default/edge1/mirror/") == 200


def test_a_gone_and_a_slow_service_are_named(site: Site) -> None:
    for host, where in ((site.internet, CLOUD), (site.edges[1], LOCAL)):
        status, said = site.answer(host, f"{where}/default/edge1/gone/")
        assert (status, said["service"]) == (502, "gone") and "web service gone at 127.0.0.1:8099" in said["error"]
        status, said = site.answer(host, f"{where}/default/edge1/streams/slow")
        assert (status, said["service"]) == (504, "streams") and "did not answer in time" in said["error"]
    assert site.answer(site.internet, f"{CLOUD}/default/edge9/mirror/")[0] == 404


def test_services_of_the_cloud_are_for_nodes_of_their_tenants(site: Site) -> None:
    for edge in site.edges:
        status, seen = site.answer(edge, f"{LOCAL}/default/cloud/hello/x?y")
        assert (status, seen["target"]) == (200, "/x?y")
    absent, theirs = (site.answer(site.edges[0], f"{LOCAL}/default/cloud/{name}/") for name in ("absent", "theirs"))
    assert absent[0] == 404 and json.dumps(theirs).replace("theirs", "absent") == json.dumps(absent)
    status, said = site.answer(site.edges[0], f"{LOCAL}/default/cloud/dead/")
    assert status == 502 and "web service dead at 127.0.0.1:9099 refuses" in said["error"]
    assert site.status(site.internet, f"{CLOUD}/default/cloud/hello/") == 404


def test_metrics_say_how_much_each_tenant_uses(site: Site) -> None:
    site.status(site.internet, f"{CLOUD}/invented/edge1/mirror/")
    text = site.curl(site.cloud, "http://127.0.0.1:10003/metrics")
    assert re.search(r'kubeedge_publishing_requests_total\{tenant="default",code="2xx"\} [1-9]', text)
    assert re.search(r'kubeedge_publishing_bytes_total\{tenant="default",direction="in"\} [0-9]{8}', text)
    assert "invented" not in text

    def over() -> bool:
        """Also those whose clients have left in the middle."""
        text = site.curl(site.cloud, "http://127.0.0.1:10003/metrics")
        return 'kubeedge_publishing_in_progress{tenant="default"} 0' in text

    until(over, what="the end of all requests")


def test_tls_and_shares_of_tenants_are_a_matter_of_configuration(site: Site) -> None:
    """The last one: the cloud starts again with other settings, and the services come back by themselves."""
    site.restart_cloud("publishing: {tls: true, names: [shop.example], rate: 0.05, burst: 12}\n")
    ca = str(site.directory / "state/pki/ca.crt")
    names = ("--resolve", "shop.example:8080:203.0.113.1", "--cacert", ca)
    url = "https://shop.example:8080/default/edge1/mirror/"
    # shares are of the public side, whose burst no look may use up: the nodes are there again first
    inside = f"{LOCAL}/default/edge1/mirror/"
    until(lambda: site.status(site.edges[1], inside) == 200, what="the first page from another node")
    until(lambda: site.status(site.internet, *names, url) == 200, what="the first page over TLS", interval=2.0)
    status, seen = site.answer(site.internet, *names, url)
    assert (status, seen["headers"]["x-forwarded-proto"]) == (200, "https")
    assert site.status(site.internet, *names, "--tls-max", "1.2", url) == 200
    assert site.status(site.internet, url.replace("shop.example", "203.0.113.1")) == 0  # who does not know the CA
    assert site.status(site.internet, CLOUD) == 0
    said: list[str] = []

    def refused() -> bool:
        """And what is said then: one request more is allowed every 20 s, and the next one may be that."""
        said[:] = [site.curl(site.internet, "-i", *names, url)]
        return " 429 " in said[0].splitlines()[0]

    until(refused, what="the end of the burst")
    assert re.search(r"(?mi)^retry-after: [0-9]+", said[0])
    assert "tenant default has sent more than 0.05 requests a second" in said[0]
    assert site.status(site.edges[1], inside) == 200
