"""`make test-boot`: a card's image starts in an emulated machine with 128 MB, joins a cloud on this machine, runs three pods; its power is cut
while it starts first, while it pulls, and while it works. Then its image is updated (update.py).

    python -m bench.boot IMAGE [--board tiny] [--steps all|short|update|start|devices] [--results bench/results]

`short`: it joins, runs the pods, loses its power, and does both again. `update`: it joins, and its image is updated. `start`: its agent
starts, and no more. `devices`, of the board of that name: it joins, and its GPIO, CAN, serial lines and Bluetooth are used (field.py). Bytes are limits in each of
them; times only in `all`, which is for a machine that does nothing else.

Emulated without hardware's help, so a second here is some ten on a real board's processor. Root: the cloud is in a namespace.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.boot import device_tools, field
from bench.boot.machine import EMULATED, Machine
from bench.boot.update import ImageUpdate, bundle_of, not_signed
from bench.demo.kubectl import Kubectl, ready
from bench.report import RESULTS, ROOT, Report
from cardimage.signing import DEFAULT, UpdateKey
from tests.kit.topology import Topology, until

BUILD = ROOT / "build" / "boot"
_NODE = "card1"
_HOST = "10.0.2.2"  # what QEMU's network calls the loopback of this machine
_SMALL = 448 << 20  # bytes of a card that is recorded: each of many moments is looked at
_TIMEOUT = 900.0  # seconds; an emulated machine on a busy one is slow, not wrong
_SERIAL = "52:54:00:12:34:56"  # QEMU's boards have none: the address of the network interface, which is QEMU's default
_WITHOUT_BATTERY = "1970-01-01T00:00:00"
_PODS = ("one", "two", "three")


class Boot:
    """One run. Each step prints what it has seen."""

    def __init__(
        self,
        image: Path,
        results: Path,
        board: str = "tiny",
        steps: str = "all",
        key: Path = DEFAULT,
        recorded: Path | None = None,
    ) -> None:
        name = "boot" if board == "tiny" else f"boot-{board}"
        self.report = Report(name if steps in ("all", board) else f"{name}-{steps}", results)
        self.board, self.emulated = board, EMULATED[board]
        self.steps, self.key, self.recorded = steps, key, recorded
        self.build = BUILD / board  # of its own: boards may be tried beside each other
        self.image, self.card = image, self.build / "card.img"
        self.began = time.monotonic()

    def run(self) -> int:
        """The exit status."""
        shutil.rmtree(self.build, ignore_errors=True)
        self.build.mkdir(parents=True)
        with Topology() as topology:
            self.host = topology.host("cloud")
            self.host.ip("address", "add", f"{_HOST}/32", "dev", "lo")  # kubectl reaches the cloud by the same name
            try:
                self._steps()
            except (AssertionError, RuntimeError, subprocess.SubprocessError) as exc:
                print(f"\nFAILED: {exc}\n{self._tail()}", flush=True)
                return 1
        return 0 if self.report.finish() else 1

    def _steps(self) -> None:
        self._cloud()
        self._registry()
        self._time_server()
        self._card()
        if self.steps == "start":
            self._agent_starts()
            return
        if self.steps == "all":
            self._first_start()
        self._join()
        if self.steps == "devices":
            self._devices()
            return
        if self.steps == "all":
            self._pods()
        elif self.steps == "short":
            self._run_pods()
            self.until(self._all_run, "three pods run")
            self.say(f"three pods run {self.since_on():.1f} s after power-on")
            self._memory()
        if self.steps != "update":
            self._works_again()
        if self.steps != "short":
            self._update()

    def _cloud(self) -> None:
        root = self.build / "cloud"
        root.mkdir()
        config = root / "cloud.yaml"
        config.write_text(json.dumps(_cloud_config(root)))
        self.host.spawn(
            str(ROOT / ".venv/bin/kubeedge"), "cloud", "--config", str(config), log=self.build / "cloud.log"
        )
        self.socket = root / "run/cloud.sock"
        until(self.socket.exists, timeout=60, what="the administrator's socket")
        kubeconfig = root / "state/kubeconfig-default"
        until(kubeconfig.exists, timeout=60, what="the kubeconfig")
        self.kubectl = Kubectl(self.host, kubeconfig, self.build / "home")
        until(lambda: "ok" in self.kubectl("get", "--raw", "/readyz", check=False), timeout=60, what="the API")
        self.say("the cloud is up")

    def _registry(self) -> None:
        log = self.build / "registry.log"
        busybox = ROOT / "build/images" / self.board / "root/usr/bin/busybox"
        environment = {"PYTHONPATH": str(ROOT)}
        more: list[str] = []
        if self.steps == "devices":
            device_tools.unpack(self.build / "tools")
            more = [str(self.build / "tools")]
        self.host.spawn(
            sys.executable,
            "-m",
            "bench.boot.registry",
            str(busybox),
            self.emulated.architecture,
            *more,
            log=log,
            env=environment,
        )
        until(lambda: log.exists() and b"listening" in log.read_bytes(), timeout=60, what="the registry")
        self.registry_log = log
        self.registry = f"{_HOST}:{log.read_text().split()[1].rpartition(':')[2]}"

    def _time_server(self) -> None:
        log = self.build / "time.log"
        self.host.spawn(sys.executable, "-m", "bench.boot.time_server", log=log, env={"PYTHONPATH": str(ROOT)})
        until(lambda: log.exists() and b"listening" in log.read_bytes(), timeout=60, what="the time server")

    def _card(self) -> None:
        if self.emulated.join_key:
            who = {"joinKey": self.kubeedge("token", "create", "--join-key").strip()}
        else:
            who = {"name": _NODE, "token": self.kubeedge("token", "create", "--node", _NODE).strip()}
        registries = [{"registry": self.registry, "plainHttp": True}]
        modules: dict[str, Any] = {"appengine": {"images": {"registries": registries}}}
        if self.steps == "devices":
            modules["devices"] = field.SETTINGS
        document = {**who, "cloud": _HOST, "timeServers": [_HOST], "agent": {"modules": modules}}
        config = self.build / "kubeedge.yaml"
        config.write_text("# of a bench\n" + json.dumps(document, indent=1))
        _cardimage("personalise", str(self.image), "--config", str(config), "--output", str(self.card))
        os.truncate(self.card, _SMALL if self.recorded else 1 << 30)
        if self.recorded:
            self.recorded.unlink(missing_ok=True)
            shutil.copyfile(self.card, self.recorded.with_name("card.img"))
        kernel, early = self.build / "vmlinuz", self.build / "initrd.img"
        for path in (kernel, early):
            path.write_bytes(self._boot_file(path.name))
        command_line = f"{self._boot_file('cmdline.txt').decode().strip()} {self.emulated.arguments_more}".strip()
        tree = self.build / self.emulated.tree if self.emulated.tree else None
        if tree:
            tree.write_bytes(self._boot_file(tree.name))
        self.machine = Machine(
            self.emulated, self.host, self.card, kernel, early, command_line, self.build, self.recorded, tree
        )
        self.say(f"a card of 1 GiB; the image is {self.image.stat().st_size / 1e6:.1f} MB")
        must, aim = self.emulated.image
        self.report.add("image, compressed", self.image.stat().st_size / 1e6, unit="MB", must=must, aim=aim)

    def _agent_starts(self) -> None:
        """Of a board whose emulation is slow and has parts that the board has not."""
        self.machine.start()
        self.until(lambda: b"card: joining" in self.machine.console(), "the agent joins")
        self.say(f"joining {self.since_on():.1f} s after power-on")
        self.report.add("power-on to the agent's start, TCG", self.since_on(), unit="s")
        self.until(lambda: b"card: memory" in self.machine.console(), "figures of memory")

    def _first_start(self) -> None:
        self.machine.start()
        self.until(lambda: b"making the file system" in self.machine.console(), "the first start's file system")
        self.machine.cut()
        self.say(f"power cut while the data partition is made, {self.since_on():.1f} s after power-on")

    def _join(self) -> None:
        self.machine.start(clock=_WITHOUT_BATTERY)
        self.until(lambda: b"card: joining" in self.machine.console(), "joining")
        self.say(f"joining {self.since_on():.1f} s after power-on")
        if self.emulated.join_key:
            self.until(lambda: b"waits for approval" in self._boot_file("kubeedge-status.txt"), "approval is asked for")
            self.kubeedge("board", "approve", f"{_SERIAL}={_NODE}")
            self.say(f"the board waits for approval, and is approved by its serial number, {_SERIAL}")
        self.until(self._is_ready, "the node is Ready")
        # of a machine that does nothing else; a busy one is no reason to fail
        alone = self.steps == "all"
        self.report.add(
            "power-on to node Ready, TCG",
            self.since_on(),
            unit="s",
            must=75 if alone else None,
            aim=45 if alone else None,
        )
        self.say(f"Ready {self.since_on():.1f} s after power-on")
        said = self._boot_file("kubeedge-status.txt").decode()
        assert "state: joined" in said and "reason:" not in said, (
            f"something is wrong with it, such as its data: {said}"
        )
        when = datetime.datetime.fromisoformat(said.partition("time: ")[2].split()[0]).timestamp()
        assert abs(when - time.time()) < 3600, f"its clock began in 1970, and is not set: {said}"
        on_card = self._boot_file("kubeedge.yaml")
        assert b"token" not in on_card and b"joinKey" not in on_card, "the token is still on the card"
        self.say("kubeedge-status.txt says joined; the token is gone from the boot partition")
        self.machine_id = self._machine_id()
        assert re.fullmatch("[0-9a-f]{32}", self.machine_id), f"the machine has no identity: {self.machine_id!r}"

    def _pods(self) -> None:
        self._run_pods()
        self.until(lambda: b"/blobs/" in self.registry_log.read_bytes(), "the node pulls")
        self.machine.cut()
        self.say("power cut while it pulls")
        self.machine.start()
        self.until(self._all_run, "three pods run")
        self.say(f"three pods run {self.since_on():.1f} s after power-on")
        self.report.add("power-on to three pods running, TCG, after a cut", self.since_on(), unit="s")
        self._memory()

    def _devices(self) -> None:
        field.FieldDevices(self, _NODE, f"{self.registry}/app:tools").all()
        available, lowest = self.machine.memory()
        self.report.add("MemAvailable, devices of five mappers", available, unit="MB", higher=True)
        self.report.add("lowest MemAvailable, devices of five mappers", lowest, unit="MB", higher=True)
        self.say(f"MemAvailable {available:.1f} MB, lowest {lowest:.1f} MB")

    def _memory(self) -> None:
        """Of three pods that have nothing to do."""
        self._settle()
        available, lowest = self.machine.memory()
        floor, low = self.emulated.available, self.emulated.lowest
        self.report.add("MemAvailable, three pods", available, unit="MB", must=floor[0], aim=floor[1], higher=True)
        self.report.add("lowest MemAvailable while starting", lowest, unit="MB", must=low[0], aim=low[1], higher=True)
        rss, dirty, compressed = self.machine.agent()
        assert rss, "the machine does not say what the agent has"
        for name, value, (must, aim) in (
            ("RSS", rss, self.emulated.rss),
            ("private dirty", dirty, self.emulated.dirty),
        ):
            self.report.add(f"agent, three pods, idle: {name}", value, unit="MB", must=must, aim=aim)
        self.report.add("agent, three pods, idle: of both compressed", compressed, unit="MB")
        self.say(
            f"MemAvailable {available:.1f} MB, lowest {lowest:.1f} MB; the agent {rss:.1f} MB, {dirty:.1f} MB its own, "
            f"{compressed:.1f} MB of them compressed"
        )

    def _run_pods(self) -> None:
        for name in _PODS:
            self.kubectl("apply", "-f", "-", input=json.dumps(_pod(name, f"{self.registry}/app:1")))

    def _update(self) -> None:
        update = ImageUpdate(self, _NODE, bundle_of(self.image), UpdateKey(self.key), self.build / "bundles")
        update.serve(_HOST)
        update.good()
        update.bad()

    def _works_again(self) -> None:
        before = self._containers()
        self.machine.cut()
        self.machine.start(self.emulated.u_boot)
        self.until(lambda: not before & self._containers() and self._all_run(), "pods run again")
        alone = self.emulated.u_boot is not None
        assert (b"U-Boot" in self.machine.console()) == alone
        assert self._machine_id() == self.machine_id, "it is another machine after a start"
        self.say(
            f"power cut while it works{', then U-Boot from the card alone' if alone else ''}: pods run again {self.since_on():.1f} s after power-on"
        )

    # -- looks -------------------------------------------------------------------------------------------------------

    def kubeedge(self, *arguments: str, timeout: float = 90.0) -> str:
        return self.host.run(
            str(ROOT / ".venv/bin/kubeedge"), *arguments, "--socket", str(self.socket), timeout=timeout
        )

    def _is_ready(self) -> bool:
        shown = self.kubectl("get", "node", _NODE, "-o", "json", check=False)
        return bool(shown) and ready(json.loads(shown))

    def _machine_id(self) -> str:
        return str(self.kubectl.json("get", "node", _NODE)["status"]["nodeInfo"]["machineID"])

    def _all_run(self) -> bool:
        return sum(1 for pod in self.kubectl.json("get", "pods")["items"] if ready(pod)) == len(_PODS)

    def _containers(self) -> set[str]:
        """Their IDs: what was running when the power went is started anew. Restarts may not count it: that it ran may not have been on the card yet."""
        statuses = [pod["status"].get("containerStatuses", []) for pod in self.kubectl.json("get", "pods")["items"]]
        return {container.get("containerID", "") for of_pod in statuses for container in of_pod}

    def _settle(self) -> None:
        """The machine's own clock says when, whatever this machine's speed: cold memory is compressed (files/settle), twice since the
        pods came, and 20 s have passed."""
        for mark, count in ((b"card: settled", self.emulated.settles), (b"card: memory", 10)):
            seen = len(self.machine.console())
            self.until(
                lambda mark=mark, count=count, seen=seen: self.machine.console()[seen:].count(mark) >= count,
                f"{count} times {mark.decode()}",
            )

    def until(self, condition: Callable[[], bool], what: str) -> None:
        until(lambda: condition() or not self.machine.alive(), timeout=_TIMEOUT, what=what)
        assert self.machine.alive(), f"{what}: the machine has stopped"

    def since_on(self) -> float:
        return time.monotonic() - self.machine.began

    def _boot_file(self, name: str) -> bytes:
        return _cardimage("read", str(self.card), name)

    def _tail(self) -> str:
        machine = getattr(self, "machine", None)
        return machine.console()[-3000:].decode(errors="replace") if machine else ""

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:6.1f} s] {text}", flush=True)


def _cardimage(*arguments: str) -> bytes:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'firmware-images'}:{ROOT}"}
    command = [sys.executable, "-m", "cardimage", *arguments]
    return subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, cwd=ROOT).stdout


def _cloud_config(root: Path) -> dict[str, Any]:
    return {
        "apiVersion": "cloud.kubeedge.io/v1alpha1",
        "kind": "CloudCore",
        "paths": {"state": str(root / "state"), "run": str(root / "run")},
        "advertise": [_HOST],
    }


def _pod(name: str, image: str) -> dict[str, Any]:
    container = {"name": "main", "image": image, "command": ["sh", "-c", "while :; do sleep 3600; done"]}
    spec = {"nodeName": _NODE, "terminationGracePeriodSeconds": 1, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="make test-boot", description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--board", choices=sorted(EMULATED), default="tiny")
    parser.add_argument("--steps", choices=("all", "short", "update", "start", "devices"), default="all")
    parser.add_argument("--update-key", type=Path, default=DEFAULT, help="that the image was made with")
    parser.add_argument(
        "--record", type=Path, help="a file for all writes to the card (tests/faults/powercut_image.py)"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    emulated = EMULATED[options.board]
    if not (shutil.which(emulated.program) and (emulated.u_boot is None or emulated.u_boot.exists())):
        print("missing: apt-get install qemu-system-arm u-boot-qemu", file=sys.stderr)
        return 2
    if options.steps in ("all", "update") and (problem := not_signed(bundle_of(options.image), options.update_key)):
        print(f"{problem}; KEY=FILE names the key that it was made with", file=sys.stderr)
        return 2
    return Boot(
        options.image.resolve(), options.results, options.board, options.steps, options.update_key, options.record
    ).run()


if __name__ == "__main__":
    sys.exit(main())
