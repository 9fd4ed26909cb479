"""A cloud and one machine on a wire, and the agent of an installation on it, with all of its modules."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.budgets import readings
from bench.budgets.cgroup import ControlGroup
from bench.demo.scenario import started_after
from bench.report import ROOT
from kubeedge.appengine.runtime import cgroups
from kubeedge.config import edge
from tests.kit import images
from tests.kit.topology import Topology, descendants, until

KUBECTL = str(ROOT / "build/debian/usr/bin/kubectl")
CLOUD = "203.0.113.1"
IMAGE = "docker.io/library/budget:1"
#: every module, as in the table of budgets
MODULES = {
    "mesh": {"enable": True},
    "metaserver": {"enable": True},
    "devices": {"enable": True},
}
#: a slow agent may take long; what does not come at all is said with the end of its log
_LONG = 600.0


def pod(name: str) -> dict[str, Any]:
    """One that says a line and sleeps."""
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "nodeName": "edge1", "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": IMAGE, "command": ["sh", "-c", "echo started; exec sleep 1000000"]}],
        },
    }  # fmt: skip


class BudgetSite:
    """`agent`: makes the command line of `kubeedge` on the machine. `limits`: memory in bytes and share of a core for all that is ours."""

    def __init__(
        self,
        net: Topology,
        directory: Path,
        agent: Callable[..., list[str]],
        *,
        modules: dict[str, Any] | None = None,
        limits: tuple[int | None, float | None] = (None, None),
    ) -> None:
        self.net, self.directory, self._agent = net, directory, agent
        self.root = directory / "r"
        self._process: subprocess.Popen[bytes] | None = None
        self.prefix = f"kbbudget{os.getpid()}"
        self.group = ControlGroup(f"{self.prefix}-agent", memory=limits[0], cpu=limits[1])
        self.cloud, self.machine = net.host("cloud"), net.host("machine")
        self._cable, _ = net.wire(self.cloud, f"{CLOUD}/24", self.machine, "203.0.113.7/24")
        self._socket = str(directory / "run/cloud.sock")
        config = {
            "kind": "CloudCore", "advertise": [CLOUD], "tun": {"enable": False}, "listeners": {"web": {"port": 8080}},
            "paths": {"state": f"{directory}/state", "run": f"{directory}/run"},
        }  # fmt: skip
        (directory / "cloud.yaml").write_text(json.dumps(config))
        self.cloud.spawn(
            sys.executable, "-m", "kubeedge", "cloud", "--config", str(directory / "cloud.yaml"),
            log=directory / "cloud.log",
        )  # fmt: skip
        until(Path(self._socket).exists, timeout=_LONG, what="the cloud's socket")
        self._configure({**MODULES} if modules is None else modules)

    def _configure(self, modules: dict[str, Any]) -> None:
        r = self.root
        p = edge.at_root(r)
        paths = {name: str(getattr(p, name)) for name in ("state", "run", "pki", "logs")}
        own = {"cgroupPrefix": self.prefix, "evictionHard": ["none"]}  # whatever else fills this machine
        preload = p.state / "images/preload"
        preload.mkdir(parents=True)
        images.build(preload / "budget.tar", IMAGE)
        config = r / "etc/kubeedge/kubeedge.yaml"
        config.parent.mkdir(parents=True)
        config.write_text(json.dumps({"paths": paths, "modules": {**modules, "appengine": own}}))

    def join(self) -> None:
        """By token."""
        token = self.cloud.run(
            sys.executable, "-m", "kubeedge", "token", "create", "--node", "edge1", "--socket", self._socket
        )
        arguments = ["--token-file", "-", "--name", "edge1", "--root-dir", str(self.root), "--no-start", CLOUD]
        self.machine.run(*self.group.command(*self._agent("join", *arguments)), input=token, timeout=_LONG)

    def start(self) -> int:
        """The agent's process id; returns at once."""
        process = self.machine.spawn(
            *self.group.command(*self._agent("edge", "--root-dir", str(self.root))), log=self.directory / "edge.log"
        )
        until(lambda: bool(descendants(process.pid)), timeout=_LONG, what="a process")
        self._process = process
        self.pid: int = descendants(process.pid)[0]
        return self.pid

    def stop(self) -> None:
        """By SIGTERM; its pods go on."""
        assert self._process is not None
        self.machine.stop(self._process, timeout=_LONG)
        self._process = None

    def power_cut(self) -> None:
        """Nothing of the machine runs any more."""
        self._process = None
        self.machine.power_cut()
        cgroups.kill_and_remove(self.prefix)

    def cut(self) -> None:
        """The cable: no frame passes."""
        self.cloud.ip("link", "set", self._cable, "down")

    def heal(self) -> None:
        self.cloud.ip("link", "set", self._cable, "up")

    def kubectl(self, *arguments: str, input: str | None = None, check: bool = True, timeout: float = _LONG) -> str:
        config = str(self.directory / "state/kubeconfig-default")
        return self.cloud.run(
            "env", f"HOME={self.directory}", KUBECTL, "--kubeconfig", config, *arguments,
            input=input, check=check, timeout=timeout,
        )  # fmt: skip

    def is_up(self) -> bool:
        """Whether all modules of the agent are ready."""
        try:
            states = {module["state"] for module in self.status()["modules"]}
        except RuntimeError:  # it does not listen yet
            return False
        return states == {"ready"}

    def ready(self) -> bool:
        """Whether the cloud calls the node so."""
        return " Ready " in self.kubectl("get", "nodes", check=False)

    def pods(self, count: int, timeout: float = _LONG) -> None:
        """So many, all running."""
        items = [pod(f"p{n}") for n in range(count)]
        self.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        self.wait(lambda: self.running() >= count, f"{count} pods running", timeout)

    def running(self) -> int:
        """Pods that run, as the cloud knows."""
        phases = self.kubectl("get", "pods", "-o", "jsonpath={.items[*].status.phase}", check=False)
        return phases.split().count("Running")

    def containers(self) -> int:
        """Processes of pods on the machine."""
        return len(self.machine.running(b"sleep\x001000000"))

    def monitors(self) -> list[int]:
        """The processes that hold the containers' logs."""
        return [pid for pid in self.machine.running(b"conmon\0") if readings.memory(pid).rss]

    def ours(self) -> list[int]:
        """The agent, its helpers, the programs that it runs; and what of them has moved to the groups of pods."""
        return list({*self.group.pids(), *self.monitors()})

    def wait(self, condition: Callable[[], bool], what: str, timeout: float = _LONG) -> float:
        """Seconds. AssertionError with the end of the agent's log, also when the agent has ended."""

        def come() -> bool:
            if condition():
                return True
            assert self._process is None or self._process.poll() is None, f"{what}: the agent has ended"
            return False

        try:
            return until(come, timeout=timeout, what=what)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.log()[-3000:]}") from None

    def first_lines(self, pods: int, since: float) -> list[float]:
        """time.time() at which each pod wrote its first line after `since`, the earliest first; [] until all have."""
        logs = edge.at_root(self.root).logs
        at = [started_after(logs, f"default_p{n}_", since) for n in range(pods)]
        return sorted(at) if all(at) else []

    def log(self) -> str:
        """What the agent has said."""
        path = self.directory / "edge.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def status(self) -> dict[str, Any]:
        """`kubeedge status` of the agent."""
        socket = str(edge.at_root(self.root).run / "edge.sock")
        answer: dict[str, Any] = json.loads(self.machine.run(*self._agent("status", "-o", "json", "--socket", socket)))
        return answer


@contextlib.contextmanager
def site(agent: Callable[..., list[str]], **options: Any) -> Iterator[BudgetSite]:
    """One in a directory of its own; nothing of it is left afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="kbb"))  # short: it holds sockets
    made: BudgetSite | None = None
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        net = stack.enter_context(Topology())
        try:
            made = BudgetSite(net, directory, agent, **options)
            yield made
        finally:
            net.__exit__()
            if made is not None:
                cgroups.kill_and_remove(made.prefix)
                made.group.close()
