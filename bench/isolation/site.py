"""One cloud, a node of the tenant that works (victim) and nodes of the one that means harm (attacker), as real processes in namespaces.

    internet ── web clients of both, the attacker's kubectl ── cloud ══ edge1: the victim's node, a page, its kubectl
                                                                    ══ edge2: the attacker's node, a service without end
                                                                    ══ edge3: the attacker's second node; beside it a node of its own making

The attacker's processes run at nice 19. In reality they are on machines of their own; here the processors are first for those that are measured.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.report import ROOT
from tests.kit import endless
from tests.kit.topology import Host, descendants, edges_behind_nat, until

KUBEEDGE = [sys.executable, "-m", "kubeedge"]
PYTHON = ["env", f"PYTHONPATH={ROOT}", sys.executable]
POLITE = ["nice", "-n", "19"]
CLOUD = "203.0.113.1"
CLOUD_OVERLAY = "100.64.255.254"  # of the TUN in the cloud, which is the victim's
VICTIM, ATTACKER = "victim", "attacker"
PAGE = f"/{VICTIM}/edge1/page/"
ENDLESS = f"/{ATTACKER}/edge2/endless/"
MEASURED = ("cloud", "edge1", "edge2")  # whose memory is looked at


class Program:
    """A process of the attacker: begun once it has said a word, ended by the end of its input or else by a signal."""

    def __init__(self, host: Host, log: Path, word: str, *argv: str) -> None:
        self._host, self._log = host, log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                host.command(*POLITE, *PYTHON, *argv), stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        try:
            until(lambda: word in self.said(), timeout=120, what=f"{word!r} of {' '.join(argv[:4])}")
        except AssertionError as exc:
            self.stop()
            raise AssertionError(f"{exc}: {self.said()[-2000:]}") from None

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def stop(self) -> str:
        """The last line that it said."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=8)
        except subprocess.TimeoutExpired:
            self._host.signal(self._process, 9)
            self._process.wait()
        return (self.said().splitlines() or [""])[-1]


@dataclass(frozen=True, slots=True)
class Growth:
    """MB of the largest resident set in a time, above the one at its beginning."""

    cloud: float
    victim_agent: float
    attacker_agent: float


class Site:
    def __init__(self, directory: Path, cloud: Host, edges: list[Host], internet: Host) -> None:
        self.directory, self.cloud, self.edges, self.internet = directory, cloud, edges, internet
        self._logs = itertools.count(1)
        self._pids: dict[str, int] = {}
        self._start_cloud()
        for n, edge in enumerate(edges, 1):
            self._start_agent(n, edge)
        self._start_services()
        self.bad = self.join("bad", ATTACKER, edges[2])
        for name in (VICTIM, ATTACKER):
            self.kubectl_works(name)

    # -- set-up --------------------------------------------------------------------------------------------------------

    def _start_cloud(self) -> None:
        d = self.directory
        config = {
            "kind": "CloudCore", "advertise": [CLOUD], "tenants": [VICTIM, ATTACKER], "tun": {"tenant": VICTIM},
            "paths": {"state": f"{d}/state", "run": f"{d}/run"},
        }  # fmt: skip
        (d / "cloud.yaml").write_text(json.dumps(config))
        process = self.cloud.spawn(*KUBEEDGE, "cloud", "--config", str(d / "cloud.yaml"), log=d / "cloud.log")
        until(self.control.exists, timeout=60, what="the cloud's socket")
        self._pids["cloud"] = descendants(process.pid)[0]
        for source in (f"198.51.{100 + n}.0/24" for n in range(4)):  # addresses of the internet, for floods
            self.cloud.ip("route", "add", source, "via", "203.0.113.200")
            self.internet.ip("route", "add", "local", source, "dev", "lo")
        self.internet.run("tee", "/proc/sys/net/ipv4/ip_nonlocal_bind", input="1")

    def _start_agent(self, n: int, edge: Host) -> None:
        tenant = VICTIM if n == 1 else ATTACKER
        root = self.join(f"edge{n}", tenant, edge)
        first = [] if tenant == VICTIM else POLITE
        log = self.directory / f"edge{n}.log"
        process = edge.spawn(*first, *KUBEEDGE, "edge", "--root-dir", str(root), log=log)
        until((root / "run/edge.sock").exists, timeout=60, what=f"the socket of edge{n}")
        until(lambda: f"link up tenant={tenant} node=edge{n}" in self.log(), timeout=60, what=f"the link of edge{n}")
        self._pids[f"edge{n}"] = descendants(process.pid)[0]

    def join(self, name: str, tenant: str, edge: Host) -> Path:
        root = self.directory / name
        settings = root / "etc/kubeedge/kubeedge.yaml"
        settings.parent.mkdir(parents=True)
        paths = {"state": "var/lib/kubeedge/edge", "run": "run", "pki": "etc/kubeedge/pki", "logs": "var/log/pods"}
        own = {"kind": "EdgeCore", "paths": {k: str(root / v) for k, v in paths.items()}}
        settings.write_text(json.dumps({**own, "modules": {"appengine": {"enable": False}}}))
        token = self.ask_cloud("token", "create", "--tenant", tenant, "--node", name)
        join = [*KUBEEDGE, "join", "--token-file", "-", "--name", name, "--root-dir", str(root), "--no-start", CLOUD]
        edge.run(*join, input=token)
        return root

    def _start_services(self) -> None:
        page = ("-m", "tests.kit.web_services", "8001", "8002", "8003")
        self.edges[0].spawn(*PYTHON, *page, log=self.directory / "page.log")
        self.edges[1].spawn(*POLITE, *PYTHON, "-m", "tests.kit.endless", "serve", log=self.directory / "endless.log")
        for n, name in ((1, "page"), (2, "endless")):
            socket = self.directory / f"edge{n}/run/edge.sock"
            self.edges[n - 1].run(*KUBEEDGE, "publish", name, str(endless.PORT), "--socket", str(socket))
        url = f"http://{CLOUD}:8080"
        seen = ("curl", "-s", "-o", "/dev/null", "-m", "5", "-w", "%{http_code}")
        until(lambda: self.internet.run(*seen, url + PAGE, check=False) == "200", timeout=60, what="the first page")
        until(lambda: self.internet.run(*seen, url + ENDLESS, check=False) != "404", timeout=60, what="the service")

    def kubectl_works(self, tenant: str) -> None:
        config = self.kubeconfig(tenant)
        until(lambda: Path(config).exists(), timeout=20, what=f"the kubeconfig of {tenant}")

    # -- what the attacks and the bench use ----------------------------------------------------------------------------

    @property
    def control(self) -> Path:
        return self.directory / "run/cloud.sock"

    def ask_cloud(self, *argv: str) -> str:
        return self.cloud.run(*KUBEEDGE, *argv, "--socket", str(self.control))

    def kubeconfig(self, tenant: str) -> str:
        return str(self.directory / f"state/kubeconfig-{tenant}")

    def new_tenant(self, name: str) -> str:
        """A tenant that has written nothing yet: its kubeconfig."""
        self.ask_cloud("tenant", "create", name)
        path = self.directory / f"kubeconfig-{name}"
        path.write_text(self.ask_cloud("kubeconfig", "create", "--tenant", name))
        return str(path)

    def stored(self, tenant: str) -> float:
        """MB of the tenant's objects."""
        return float(json.loads(self.ask_cloud("tenant", "show", tenant, "-o", "json"))["bytes"]["used"]) / 1e6

    def program(self, host: Host, word: str, *argv: str) -> Program:
        return Program(host, self.directory / f"attack{next(self._logs)}.log", word, *argv)

    def log(self) -> str:
        return (self.directory / "cloud.log").read_text()

    def check_log(self) -> None:
        for name in ("cloud", "edge1"):
            if "Traceback" in (text := (self.directory / f"{name}.log").read_text()):
                raise AssertionError(f"a traceback in {name}.log: {text[text.index('Traceback') :][:2000]}")

    def lost(self, since: int) -> list[str]:
        """Lines of the cloud's log, after so many characters of it, that say that the victim's node lost its channel or a link."""
        gone = re.compile(rf"(link down|detached) tenant={VICTIM} ")
        return [line for line in self.log()[since:].splitlines() if gone.search(line)]

    def resident(self) -> dict[str, int]:
        """Bytes of each process; the largest of them are counted from zero from now on."""
        for name in MEASURED:
            Path(f"/proc/{self._pids[name]}/clear_refs").write_text("5")  # proc(5): forget the peak
        return {name: self._memory(name, "VmRSS") for name in MEASURED}

    def grown(self, since: dict[str, int]) -> Growth:
        """`since`: what resident() said last."""
        cloud, victim, attacker = (max(0, self._memory(name, "VmHWM") - since[name]) / 1e6 for name in MEASURED)
        return Growth(cloud, victim, attacker)

    def _memory(self, name: str, field: str) -> int:
        lines = Path(f"/proc/{self._pids[name]}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


@contextlib.contextmanager
def site(directory: Path) -> Iterator[Site]:
    with edges_behind_nat(3) as (_, cloud, edges, _, internet):
        try:
            yield Site(directory, cloud, edges, internet)
        except BaseException:
            sys.stderr.write((directory / "cloud.log").read_text()[-3000:])
            raise
