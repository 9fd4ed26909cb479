"""`make bench NAME=http`: a web service behind publish, and the same one behind nginx as a reverse proxy on the same path.

    client ── cloud: kubeedge cloud :8080 ══ KubeBus, TLS ══ edge: kubeedge edge ── 127.0.0.1:8000 nginx, the service
    client ── cloud: rathole :8082 ══ TCP, Noise ══ edge: rathole ── 127.0.0.1:8000 the same nginx
    client ── cloud: nginx :8081 (keep-alive towards the service) ──────────────── edge: the same nginx

rathole (the newest, built by cargo) is the other tunnel: like publish it has a process at each end and encrypts between them, hop by hop, but it
forwards bytes and does not read HTTP. nginx has only the half in the cloud, and no TLS. Interleaved, round by round: wrk with 64
connections; small keep-alive GETs at 4,000 a second from a load of constant rate (load.c), whose "added" is what the way through
publish takes more than the way from the client to the service itself; one large file. The bounds are ratios to nginx and to rathole in the same
round. nginx and wrk are Debian's, unpacked below build/.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.peers import debian, newest
from bench.peers.site import cpu, machine_load
from bench.report import Report
from tests.kit.topology import Host, Topology, until

HERE = Path(__file__).parent
KUBEEDGE = [sys.executable, "-m", "kubeedge"]
CLOUD, CLIENT = "203.0.113.1", "203.0.113.2"
CLOUD_EDGE, EDGE = "10.20.0.1", "10.20.0.2"
RATE, LOAD_LINKS = 4000, 32
SMALL = b"a small answer of an ordinary service\n" * 3
LARGE = 1 << 30  # bytes

ORIGIN = """
daemon off; worker_processes 1; pid {d}/origin.pid; error_log {d}/origin.err;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; client_body_temp_path {d}/o1; proxy_temp_path {d}/o2;
  fastcgi_temp_path {d}/o3; uwsgi_temp_path {d}/o4; scgi_temp_path {d}/o5;
  server {{ listen 8000; root {d}/www; }}
}}
"""
TUNNEL = """
[{role}]
{address} = "{cloud}:2333"
default_token = "bench"
[{role}.transport]
type = "noise"
[{role}.transport.noise]
{key}
[{role}.services.web]
{service}
"""
PROXY = """
daemon off; worker_processes auto; pid {d}/proxy.pid; error_log {d}/proxy.err;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000000; client_body_temp_path {d}/p1; proxy_temp_path {d}/p2;
  fastcgi_temp_path {d}/p3; uwsgi_temp_path {d}/p4; scgi_temp_path {d}/p5;
  upstream service {{ server {edge}:8000; keepalive 64; keepalive_requests 100000000; }}
  server {{ listen 8081; location / {{ proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; proxy_max_temp_file_size 0; }} }}
}}
"""


@dataclass(frozen=True)
class Way:
    name: str
    address: str
    port: int
    path: str

    def url(self, name: str) -> str:
        return f"http://{self.address}:{self.port}{self.path}{name}"


OURS = Way("publish", CLOUD, 8080, "/default/edge1/web/")
NGINX = Way("nginx", CLOUD, 8081, "/")
RATHOLE = Way("rathole", CLOUD, 8082, "/")
TUNNELS = (NGINX, RATHOLE, OURS)
DIRECT = Way("direct", EDGE, 8000, "/")


class Site:
    def __init__(self, net: Topology, directory: Path) -> None:
        self.directory = directory
        self.client, self.cloud, self.edge = net.host("client"), net.host("cloud"), net.host("edge")
        net.wire(self.client, f"{CLIENT}/24", self.cloud, f"{CLOUD}/24")
        net.wire(self.cloud, f"{CLOUD_EDGE}/24", self.edge, f"{EDGE}/24")
        for host in (self.client, self.cloud, self.edge):
            host.ip("link", "set", "lo", "up")
        self.cloud.run("tee", "/proc/sys/net/ipv4/ip_forward", input="1")
        self.client.ip("route", "add", "default", "via", CLOUD)
        self.edge.ip("route", "add", "default", "via", CLOUD_EDGE)
        self.environment = {"LD_LIBRARY_PATH": debian.LIBRARIES}
        self._origin()
        self._tunnel()
        self._publish()

    def _origin(self) -> None:
        d = self.directory
        (d / "www").mkdir()
        (d / "www/small").write_bytes(SMALL)
        with open(d / "www/large", "wb") as out:
            out.truncate(LARGE)
        for path in (d, d / "www"):
            path.chmod(0o755)
        (d / "origin.conf").write_text(ORIGIN.format(d=d))
        (d / "proxy.conf").write_text(PROXY.format(d=d, edge=EDGE))
        self.nginx(self.edge, "origin")
        self.proxy = self.nginx(self.cloud, "proxy")
        until(lambda: self.fetched(DIRECT) and self.fetched(NGINX), timeout=10, what="nginx")

    def _tunnel(self) -> None:
        path = newest.program("rathole")
        private, public = re.findall(r"Key:\s*(\S+)", self.cloud.run(path, "--genkey"))
        for role, host, address, key, service in (
            ("server", self.cloud, "bind_addr", f'local_private_key = "{private}"', 'bind_addr = "0.0.0.0:8082"'),
            ("client", self.edge, "remote_addr", f'remote_public_key = "{public}"', 'local_addr = "127.0.0.1:8000"'),
        ):
            config = self.directory / f"rathole-{role}.toml"
            text = TUNNEL.format(role=role, address=address, cloud=CLOUD_EDGE, key=key, service=service)
            config.write_text(text)
            host.spawn(path, f"--{role}", str(config), log=config.with_suffix(".log"))
        until(lambda: self.fetched(RATHOLE), timeout=20, what="rathole")

    def nginx(self, host: Host, name: str) -> subprocess.Popen[bytes]:
        return host.spawn(
            debian.program("nginx"), "-p", str(self.directory), "-c", str(self.directory / f"{name}.conf"),
            "-e", str(self.directory / f"{name}.start"), "-g", "user root;", log=self.directory / f"{name}.log",
            env=self.environment,
        )  # fmt: skip

    def _publish(self) -> None:
        d = self.directory
        config = d / "cloud.yaml"
        config.write_text(
            f"kind: CloudCore\nadvertise: [{CLOUD_EDGE}]\ntun: {{enable: false}}\n"
            f"paths: {{state: {d}/state, run: {d}/run}}\n"
        )
        socket = d / "run/cloud.sock"
        self.ours = [self.cloud.spawn(*KUBEEDGE, "cloud", "--config", str(config), log=d / "cloud.log")]
        until(socket.exists, timeout=20, what="the cloud's socket")
        root = d / "edge"
        settings = {
            "kind": "EdgeCore",
            "paths": {
                "state": f"{root}/var/lib/kubeedge/edge", "run": f"{root}/run/kubeedge", "pki": f"{root}/etc/kubeedge/pki",
                "logs": f"{root}/var/log/pods",
            },
            "modules": {"appengine": {"enable": False}},
        }  # fmt: skip
        (root / "etc/kubeedge").mkdir(parents=True)
        (root / "etc/kubeedge/kubeedge.yaml").write_text(json.dumps(settings))
        token = self.cloud.run(*KUBEEDGE, "token", "create", "--node", "edge1", "--socket", str(socket))
        self.edge.run(
            *KUBEEDGE, "join", "--token-file", "-", "--name", "edge1", "--root-dir", str(root), "--no-start", CLOUD_EDGE,
            input=token,
        )  # fmt: skip
        self.ours.append(self.edge.spawn(*KUBEEDGE, "edge", "--root-dir", str(root), log=d / "edge.log"))
        agent = root / "run/kubeedge/edge.sock"
        until(agent.exists, timeout=20, what="the agent's socket")
        self.edge.run(*KUBEEDGE, "publish", "web", "8000", "--socket", str(agent))
        until(lambda: self.fetched(OURS), timeout=20, what="the first page through publish")

    def fetched(self, way: Way) -> bool:
        return self.client.run("curl", "-s", "--max-time", "5", way.url("small"), check=False).encode() == SMALL

    def pids(self, way: Way) -> list[int]:
        """Of the processes that carry the way, the service not counted."""
        hosts = (self.cloud,) if way is NGINX else (self.cloud, self.edge)
        named = {p: Path(f"/proc/{p}/comm").read_text().strip() for host in hosts for p in host.processes()}
        if way is OURS:
            return [p for p, name in named.items() if name not in ("nginx", "rathole")]
        return [p for p, name in named.items() if name == way.name]

    def wrk(self, way: Way, seconds: int) -> tuple[float, float]:
        """(requests a second, processor microseconds of the way for each)"""
        pids = self.pids(way)
        before = cpu(pids)
        out = self.client.run(
            "env", f"LD_LIBRARY_PATH={debian.LIBRARIES}", debian.program("wrk"), "-t1", "-c64", f"-d{seconds}s",
            way.url("small"), timeout=seconds + 30,
        )  # fmt: skip
        used = cpu(pids) - before
        if re.search(r"Non-2xx|Socket errors", out):
            raise RuntimeError(f"{way.name}: {out}")
        found = re.search(r"(\d+) requests in", out)
        assert found, out
        count = int(found[1])
        return count / seconds, used / count * 1e6

    def load(self, way: Way, seconds: float) -> tuple[int, float, float]:
        """(errors, p50, p99): milliseconds"""
        out = self.client.run(
            str(self.directory / "load"), way.address, str(way.port), f"{way.path}small", way.address, str(LOAD_LINKS),
            str(RATE), str(seconds), timeout=seconds + 30,
        )  # fmt: skip
        _, errors, p50, p99, _ = (int(word) for word in out.split())
        return errors, p50 / 1000, p99 / 1000

    def bulk(self, way: Way) -> float:
        """Gbit/s"""
        out = self.client.run(
            "curl", "-s", "-o", "/dev/null", "-w", "%{http_code} %{size_download} %{speed_download}", way.url("large"),
            timeout=120,
        )  # fmt: skip
        status, size, speed = out.split()
        if (status, int(size)) != ("200", LARGE):
            raise RuntimeError(f"{way.name}: {out}")
        return float(speed) * 8 / 1e9


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.http", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each wrk and of each load")
    options = parser.parse_args()
    debian.unpack(("nginx-light", "wrk"))
    report = Report("http")
    report.versions |= {"nginx": f"Debian {debian.version('nginx')}", "rathole": newest.version("rathole")}
    with tempfile.TemporaryDirectory(prefix="kb-http-") as name, Topology() as net:
        directory = Path(name)
        subprocess.run(["gcc", "-O2", "-Wall", "-o", f"{directory}/load", str(HERE / "load.c")], check=True)
        site = Site(net, directory)
        print(f"load of the machine before: {machine_load()}")
        for n in range(options.rounds):
            rates = {way: site.wrk(way, options.seconds) for way in TUNNELS}
            loads = {way: site.load(way, options.seconds) for way in (DIRECT, *TUNNELS)}
            bulks = {way: site.bulk(way) for way in TUNNELS}
            print(
                f"round {n + 1}: "
                + "; ".join(f"{w.name} {r[0]:.0f}/s {r[1]:.0f} us" for w, r in rates.items())
                + "; "
                + "; ".join(f"{w.name} p50 {v[1]:.3f} p99 {v[2]:.2f} ms" for w, v in loads.items())
                + "; "
                + "; ".join(f"{w.name} {v:.2f} Gbit/s" for w, v in bulks.items()),
                flush=True,
            )
            report.add(
                "wrk -c64, ours / nginx", rates[OURS][0] / rates[NGINX][0], unit="x", must=0.2, aim=0.6, higher=True
            )
            report.add(
                "wrk -c64, ours / rathole", rates[OURS][0] / rates[RATHOLE][0], unit="x", must=1, aim=1.5, higher=True
            )
            report.add("wrk -c64, rathole", rates[RATHOLE][0], unit="/s", higher=True)
            report.add("CPU of a request, rathole (both ends)", rates[RATHOLE][1], unit="us")
            report.add("4,000/s, rathole added p50", loads[RATHOLE][1] - loads[DIRECT][1], unit="ms")
            report.add("4,000/s, rathole added p99", loads[RATHOLE][2] - loads[DIRECT][2], unit="ms")
            report.add("one large file, rathole", bulks[RATHOLE], unit="Gbit/s", higher=True)
            report.add("wrk -c64, ours", rates[OURS][0], unit="/s", higher=True)
            report.add("wrk -c64, nginx", rates[NGINX][0], unit="/s", higher=True)
            report.add("CPU of a request, ours (both ends)", rates[OURS][1], unit="us")
            report.add("CPU of a request, nginx", rates[NGINX][1], unit="us")
            report.add("4,000/s, added p50", loads[OURS][1] - loads[DIRECT][1], unit="ms")
            report.add("4,000/s, added p99", loads[OURS][2] - loads[DIRECT][2], unit="ms")
            p50, p99 = (loads[OURS][n] / loads[RATHOLE][n] for n in (1, 2))
            report.add("4,000/s, p50, ours / rathole", p50, unit="x", must=3, aim=1.5)
            report.add("4,000/s, p99, ours / rathole", p99, unit="x", must=1.2, aim=0.5)
            report.add("4,000/s, errors", loads[OURS][0], unit="requests", must=0, aim=0)
            report.add("4,000/s, nginx added p50", loads[NGINX][1] - loads[DIRECT][1], unit="ms")
            report.add("4,000/s, nginx added p99", loads[NGINX][2] - loads[DIRECT][2], unit="ms")
            report.add(
                "one large file, ours / nginx", bulks[OURS] / bulks[NGINX], unit="x", must=0.3, aim=0.8, higher=True
            )
            report.add("one large file, ours", bulks[OURS], unit="Gbit/s", higher=True)
            report.add("one large file, nginx", bulks[NGINX], unit="Gbit/s", higher=True)
    return 0 if report.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
