"""Devices of the emulated machine: the node's own mappers use them through the kernel, and peers that nobody here wrote are at their other ends.

| what | the kernel's driver | the other end |
|---|---|---|
| GPIO | gpio-sim; PL061 | files of the machine, libgpiod's gpioinfo; QEMU's power button and monitor |
| CAN | kvaser_pci, SJA1000 | can-utils at a second controller of the bus |
| Modbus RTU | ftdi_sio, xhci | pymodbus |
| lines of text | 8250 | a server of lines |
| Bluetooth Low Energy | hci_uart, on 8250 | Bumble, btattach |

All of it in 192 MB, with one process for all mappers, which the agent runs. Nothing here knows how a mapper works: what is compared is what kubectl shows
and what the other end has got.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.boot import device_manifests, machine
from bench.demo.devices import values
from bench.demo.kubectl import ready
from bench.report import ROOT
from tests.kit.foreign import environment
from tests.kit.topology import inside

if TYPE_CHECKING:
    from bench.boot.__main__ import Boot

MAPPERS = ("gpio", "can", "modbus", "serial", "ble")
#: of the agent, on the card
SETTINGS = {"enable": True, "mappers": list(MAPPERS)}
_PERIPHERALS = ROOT / "tests/kit/peripherals"
_DATA = 0x0903_0000 + 0x3FC  # of PL061: all lines of its data register
_PATIENCE = 600.0  # seconds for a command; an emulated machine on a busy one is slow, not wrong
_CHIP = "/sys/kernel/config/gpio-sim/panel"
_MAKE_CHIP = f"""
modprobe gpio-sim
mount -t configfs none /sys/kernel/config
mkdir -p {_CHIP}/bank0/line3 {_CHIP}/bank0/line5
echo {device_manifests.LINES} >{_CHIP}/bank0/num_lines
echo {device_manifests.SIMULATED} >{_CHIP}/bank0/label
echo LEVEL >{_CHIP}/bank0/line3/name
echo VALVE >{_CHIP}/bank0/line5/name
echo 1 >{_CHIP}/live
"""


class FieldDevices:
    """Of the node `name` of a run, which has joined."""

    def __init__(self, run: Boot, name: str, image: str) -> None:
        self._run, self._name, self._image = run, name, image
        self._peers: dict[str, subprocess.Popen[bytes]] = {}

    def all(self) -> None:
        """Each says what it has seen."""
        self._start_tools()
        self._chip()
        self._gpio()
        self._power_button()
        self._can()
        self._modbus()
        self._text()
        self._bluetooth()
        self._everything_again()

    # -- what is behind the machine's hardware -----------------------------------------------------------------------

    def _chip(self) -> None:
        self._apply(device_manifests.panel())
        self._wait("panel", "a chip that is not there yet", lambda one: "no GPIO chip" in json.dumps(one["status"]))
        self._in_machine(_MAKE_CHIP)
        self._has("panel", {"door": "false", "pulses": "0", "level": "0"}, is_ready=True)
        self._run.say("gpio: a chip by its label, that came after its Device; lines by offset and by name")

    def _gpio(self) -> None:
        self._pull(1, True)
        self._pull(3, True)
        self._has("panel", {"door": "true", "level": "1"})
        for _ in range(5):
            self._pull(2, True)
            self._pull(2, False)
        self._has("panel", {"pulses": "5"})
        self._run.say("gpio: an edge, a level, and 5 pulses that nobody could have read in time")
        self._set("panel", relay="true", valve="true")
        self._until(lambda: self._line(4) == "1" and self._line(5) == "0", "the outputs of the panel")
        self._has("panel", {"relay": "true", "valve": "true"})
        shown = self._tool("gpioinfo", "-c", "/machine/dev/gpiochip1")
        held = [line for line in shown.splitlines() if "kubeedge" in line]
        assert len(held) == 5 and any("VALVE" in line and "active-low" in line for line in held), shown
        self._run.say(
            f"gpio: two outputs, one of them active low, as sysfs has them; gpioinfo sees {len(held)} lines in use by kubeedge"
        )

    def _power_button(self) -> None:
        self._apply(device_manifests.button())
        self._has("board", {"presses": "0"}, is_ready=True)
        self._monitor("system_powerdown")
        self._has("board", {"presses": "1"})
        self._set("board", lamp="true")
        self._until(lambda: bool(self._pl061() >> 5 & 1), "the lamp, as QEMU's PL061 has it")
        self._run.say("gpio: QEMU's power button is pressed for 100 ms, and counted; a lamp that QEMU's monitor sees")

    def _can(self) -> None:
        for name, interface in (("engine", "can0"), ("gauge", "can1")):
            self._apply(device_manifests.engine(name, interface))
        self._until(lambda: self._is_up("can0") and self._is_up("can1"), "both CAN interfaces are up")
        self._run.say("can: two controllers on one bus, set up with 500 kbit/s by the mapper")
        self._tool("cansend", "can1", "181#C800")
        self._tool("cansend", "can1", "18FEF100#7D00")
        self._has("engine", {"speed": "50.0", "temperature": "85"})
        self._heard("can1", "201", lambda: self._set("engine", limit="4660"), "00341200")
        self._run.say("can: can-utils' frames with 11 and 29 bits arrive, and candump gets one of ours")

    def _modbus(self) -> None:
        self._apply(device_manifests.boiler())
        self._wait("boiler", "an adapter that is not there", lambda one: "/dev/ttyUSB0" in json.dumps(one["status"]))
        self._peer("rtu_boiler.py", machine.RTU_PORT, str(device_manifests.UNIT))
        self._has("boiler", {"temperature": "21.5", "target": "20", "pump": "true"}, is_ready=True)
        self._run.say("modbus: an adapter that is plugged in has its driver, and pymodbus behind it is read")
        self._set("boiler", target="35", pump="false")
        self._has("boiler", {"target": "35", "pump": "false"})
        assert "written 10 35" in self._said("rtu_boiler.py")
        self._unplug("rtu_boiler.py")
        self._wait("boiler", "an adapter that is gone", lambda one: not ready(one))
        self._peer("rtu_boiler.py", machine.RTU_PORT, str(device_manifests.UNIT))
        self._has("boiler", {"target": "35", "pump": "false"}, is_ready=True)
        self._run.say("modbus: written; unplugged, plugged in again, and the desired values are written again")

    def _text(self) -> None:
        self._peer("text_scale.py", machine.TEXT_PORT)
        self._apply(device_manifests.scale())
        self._has("scale", {"weight": "12.5"}, is_ready=True)
        self._wait("scale", "an alarm that comes by itself", lambda one: int(values(one).get("alarms", "0")) > 1)
        self._set("scale", tare="500")
        self._has("scale", {"weight": "12.0"})
        self._run.say("serial: asked, told, and lines that come by themselves")

    def _bluetooth(self) -> None:
        self._peer("hci_thermometer.py", machine.HCI_PORT, kind="bluetooth")
        self._attach()
        self._run.say("ble: btattach makes a UART hci0")
        # a process of Python starts for it in the machine
        scan = ("devices", "scan", "--node", self._name, "--radio", "hci0", "--seconds", "30")
        found = self._run.kubeedge(*scan, timeout=_PATIENCE)
        assert device_manifests.BLE_ADDRESS.lower().replace(":", "-") in found.lower(), found
        self._run.say("ble: a scan from the cloud hears the thermometer, without BlueZ")
        self._apply(device_manifests.thermometer())
        self._wait("thermometer", "its temperature", lambda one: float(values(one).get("temperature", "0")) > 21.5)
        self._set("thermometer", target="23")
        self._has("thermometer", {"target": "23"}, is_ready=True)
        assert "written 17" in self._said("hci_thermometer.py")
        self._run.say("ble: the temperature comes by itself, the target is written")

    def _everything_again(self) -> None:
        """The process of the mappers is killed: one more of them, and all desired values are written again."""
        before = self._written()
        self._in_machine("for p in /proc/[0-9]*; do grep -q 'severa[l]' $p/cmdline && kill -9 ${p#/proc/}; done; true")
        self._until(lambda: self._written() > before, "what is desired is written again")
        for name in ("panel", "board", "boiler", "scale", "thermometer"):
            self._wait(name, "Ready", ready)
        self._has("panel", {"door": "true", "relay": "true", "pulses": "0"})
        self._run.say("the process of all mappers is killed, and started again")

    def _written(self) -> int:
        return self._said("rtu_boiler.py").count("written 10 35")

    # -- the other ends ----------------------------------------------------------------------------------------------

    def _peer(self, program: str, port: int, *more: str, kind: str = "") -> None:
        log = self._log(program)
        before = log.read_text().count("ready") if log.exists() else 0
        argv = (sys.executable, str(_PERIPHERALS / program), "127.0.0.1", str(port), *more)
        self._peers[program] = self._run.host.spawn(*argv, log=log, env=environment(kind) if kind else None)
        self._until(lambda: log.exists() and log.read_text().count("ready") > before, f"{program} is ready")

    def _unplug(self, program: str) -> None:
        self._run.host.signal(self._peers[program], signal.SIGKILL)
        self._peers[program].wait()

    def _log(self, program: str) -> Path:
        return self._run.build / f"{program}.log"

    def _said(self, program: str) -> str:
        return self._log(program).read_text()

    def _monitor(self, command: str, **arguments: Any) -> Any:
        """Of QEMU (QMP)."""

        def ask() -> Any:
            with (
                socket.create_connection(("127.0.0.1", machine.MONITOR_PORT), timeout=60) as sock,
                sock.makefile("rw") as file,
            ):
                file.readline()
                answer: dict[str, Any] = {}
                for execute, more in (("qmp_capabilities", {}), (command, arguments)):
                    file.write(json.dumps({"execute": execute, "arguments": more}) + "\n")
                    file.flush()
                    while "return" not in (answer := json.loads(file.readline())):
                        assert "error" not in answer, answer
                return answer["return"]

        return inside(self._run.host, ask)

    def _pl061(self) -> int:
        said = self._monitor("human-monitor-command", **{"command-line": f"xp /1wx {_DATA:#x}"})
        return int(said.split()[-1], 16)

    # -- programs in the machine -------------------------------------------------------------------------------------

    def _start_tools(self) -> None:
        container = {
            "name": "main",
            "image": self._image,
            "command": ["sh", "-c", "while :; do sleep 3600; done"],
            "securityContext": {"privileged": True},
            "volumeMounts": [{"name": "machine", "mountPath": "/machine"}],
        }
        spec = {
            "nodeName": self._name,
            "hostNetwork": True,
            "hostPID": True,
            "terminationGracePeriodSeconds": 1,
            "volumes": [{"name": "machine", "hostPath": {"path": "/"}}],
            "containers": [container],
        }
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tools"}, "spec": spec}
        self._run.kubectl("apply", "-f", "-", input=json.dumps(pod))
        self._until(lambda: ready(self._run.kubectl.json("get", "pod", "tools")), "the pod with the tools")
        self._run.say("a pod with can-utils and libgpiod's programs runs")

    def _tool(self, *argv: str) -> str:
        return self._run.kubectl("exec", "tools", "--", *argv, timeout=_PATIENCE)

    def _in_machine(self, script: str) -> str:
        return self._tool("/bin/busybox", "chroot", "/machine", "/bin/sh", "-c", script)

    def _pull(self, line: int, high: bool) -> None:
        self._in_machine(f"for file in {self._sysfs(line)}/pull; do echo pull-{'up' if high else 'down'} >$file; done")

    def _line(self, line: int) -> str:
        return self._in_machine(f"cat {self._sysfs(line)}/value").strip()

    def _sysfs(self, line: int) -> str:
        return f"/sys/devices/platform/gpio-sim.0/gpiochip*/sim_gpio{line}"

    def _is_up(self, interface: str) -> bool:
        return bool(int(self._in_machine(f"cat /sys/class/net/{interface}/flags"), 16) & 1)

    def _attach(self) -> None:
        self._in_machine("modprobe hci_uart")
        attach = (
            "/bin/btattach",
            "-B",
            "/machine/dev/ttyS1",
            "-P",
            "h4",
            "-S",
            "115200",
        )  # as long as the machine runs
        self._run.host.spawn(
            *self._run.kubectl.argv("exec", "tools", "--", *attach), log=self._run.build / "btattach.log"
        )
        self._until(lambda: "hci0" in self._in_machine("ls /sys/class/bluetooth"), "hci0")

    def _heard(self, interface: str, number: str, act: Any, data: str) -> None:
        """What candump hears of that id after `act`: the frame with this data."""
        command = self._run.kubectl.argv("exec", "tools", "--", "candump", "-L", "-n", "1", f"{interface},{number}:7FF")
        log = self._run.build / "candump.log"
        log.unlink(missing_ok=True)
        process = self._run.host.spawn(*command, log=log)
        self._until(lambda: "candump" in self._in_machine("cat /proc/[0-9]*/comm 2>/dev/null"), "candump listens")
        act()
        self._until(lambda: process.poll() is not None, "candump has got a frame")
        assert f"{number}#{data}" in log.read_text(), log.read_text()

    # -- what kubectl does and shows ---------------------------------------------------------------------------------

    def _apply(self, items: list[dict[str, Any]]) -> None:
        self._run.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    def _set(self, device: str, **wanted: str) -> None:
        properties = self._device(device)["spec"]["properties"]
        places = {one["name"]: at for at, one in enumerate(properties)}
        patch = [
            {"op": "add", "path": f"/spec/properties/{places[name]}/desired", "value": {"value": value}}
            for name, value in wanted.items()
        ]
        self._run.kubectl("patch", "device", device, "--type=json", "-p", json.dumps(patch))

    def _device(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._run.kubectl.json("get", "device", name)
        return found

    def _has(self, device: str, wanted: Mapping[str, str], *, is_ready: bool = False) -> None:
        def has(one: dict[str, Any]) -> bool:
            return wanted.items() <= values(one).items() and (ready(one) or not is_ready)

        self._wait(device, str(dict(wanted)), has)

    def _wait(self, device: str, what: str, condition: Any) -> None:
        self._until(lambda: condition(self._device(device)), f"device {device}: {what}")

    def _until(self, condition: Any, what: str) -> None:
        try:
            self._run.until(condition, what)
        except AssertionError:
            print(
                re.sub(r"\s+", " ", self._run.kubectl("get", "devices", "-o", "json", check=False))[-6000:], flush=True
            )
            raise
