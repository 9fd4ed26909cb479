"""An emulated machine: its card is a file, its console too, and its power can be cut at any moment."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.kit.topology import Host

_MEMORY = re.compile(rb"card: memory available (\d+) lowest (\d+) up ([\d.]+)")
_AGENT = re.compile(rb"card: agent rss (\d+) dirty (\d+) swapped (\d+)")
_DEVICES = (
    *("-m", "128", "-nographic"),
    *("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="),
    *("-object", "rng-random,filename=/dev/urandom,id=rng", "-device", "virtio-rng-pci,rng=rng"),
)


@dataclass(frozen=True, slots=True)
class Emulated:
    """How QEMU is the machine that a board's image is for. `available`, `lowest`: MB of MemAvailable that must, and shall, be left with three pods,
    and while they start; `rss`, `dirty`: those of the agent."""

    program: str
    arguments: tuple[str, ...]
    u_boot: Path | None  # None: QEMU brings the kernel at each start
    architecture: str  # as OCI images name it
    available: tuple[float | None, float | None]
    lowest: tuple[float | None, float | None]
    rss: tuple[float | None, float | None] = (None, None)
    dirty: tuple[float | None, float | None] = (None, None)
    join_key: bool = False  # it joins by its serial number
    devices: tuple[str, ...] = _DEVICES
    disk: tuple[str, ...] = ("if=none", "-device", "virtio-blk-pci,drive=card")  # of -drive, and after it
    image: tuple[float, float] = (80, 55)  # MB that it must, and shall, have, compressed
    cache: str = "writethrough"  # of this machine for the card
    tree: str = ""  # the device tree, of the boot partition, where QEMU makes none
    arguments_more: str = ""  # of the kernel
    settles: int = 2  # times that its cold memory has been compressed, of late, before memory is measured


_ARM64 = (
    "qemu-system-aarch64",
    ("-M", "virt", "-cpu", "cortex-a53"),
    Path("/usr/lib/u-boot/qemu_arm64/u-boot.bin"),
    "arm64",
)
_ARM = (
    "qemu-system-arm",
    ("-M", "virt,highmem=off", "-cpu", "cortex-a15"),
    Path("/usr/lib/u-boot/qemu_arm/u-boot.bin"),
    "arm",
)
#: QEMU's has 1 GiB and no less; its network is behind USB, its second serial line is the one that the board's image uses. Processors that Linux does not
#: start are off: they would wait for it in a loop that takes all of this machine. Linux calls the network eth0 for its address: QEMU's own would be usb0's
_RPI3 = (
    *("-global", "bcm2837.enabled-cpus=1"),
    *("-m", "1G", "-display", "none", "-monitor", "none", "-serial", "null", "-serial", "stdio"),
    *("-netdev", "user,id=net", "-device", "usb-net,netdev=net,mac=b8:27:eb:12:34:56"),
)
#: where what is behind a serial line listens, and QEMU's monitor: ports of the machine's host
RTU_PORT, TEXT_PORT, HCI_PORT, MONITOR_PORT = 15020, 15030, 15040, 15050


def _line(name: str, port: int, *device: str) -> tuple[str, ...]:
    """A serial line whose far end is a server that may come and go."""
    return (
        "-chardev",
        f"socket,id={name},host=127.0.0.1,port={port},reconnect=1",
        "-device",
        ",".join((*device, f"chardev={name}")),
    )


#: an adapter of a serial line on USB (FTDI's), two UARTs, two CAN controllers on one bus; GPIO (PL061) is a part of -M virt.
#: The kernel of real boards leaves 80 MB of 128, of which agent and five mappers need most; no such board has less than 512
_FIELD = (
    *("-m", "192", *_DEVICES[2:]),
    *("-device", "qemu-xhci", *_line("rtu", RTU_PORT, "usb-serial")),
    *(*_line("text", TEXT_PORT, "pci-serial"), *_line("hci", HCI_PORT, "pci-serial")),
    *("-object", "can-bus,id=bus", "-device", "kvaser_pci,canbus=bus", "-device", "kvaser_pci,canbus=bus"),
    *("-qmp", f"tcp:127.0.0.1:{MONITOR_PORT},server=on,wait=off"),
)
EMULATED = {
    "tiny": Emulated(*_ARM64, (48, 58), (36, 48)),
    "qemu": Emulated(*_ARM64, (38, 45), (None, None), join_key=True),
    "devices": Emulated(*_ARM64, (None, None), (None, None), devices=_FIELD),
    "armhf": Emulated(*_ARM, (None, None), (None, None), (30, 22), (20, 14)),
    "rpi3": Emulated(
        "qemu-system-aarch64",
        ("-M", "raspi3b"),
        None,
        "arm64",
        (None, None),
        (None, None),
        devices=_RPI3,
        disk=("if=sd",),
        image=(120, 85),
        # each sector is a write of its own, and the whole machine waits while it is flushed
        cache="unsafe",
        tree="bcm2837-rpi-3-b.dtb",
        # QEMU's watchdog resets the machine when it is started
        arguments_more="mem=128M maxcpus=1 module_blacklist=bcm2835_wdt",
        settles=0,  # when its pods run that is ten minutes apart
    ),
}


class Machine:
    """Of the kernel and initramfs that are on its card's boot partition, in `host`, whose loopback it reaches at 10.0.2.2."""

    def __init__(
        self,
        emulated: Emulated,
        host: Host,
        card: Path,
        kernel: Path,
        early: Path,
        command_line: str,
        logs: Path,
        recorded: Path | None = None,
        tree: Path | None = None,
    ) -> None:
        """`recorded`: every write to the card, and every flush, is told there (as dm-log-writes does), from start to start."""
        self._host, self._logs = host, logs
        self._command = [emulated.program, *emulated.arguments, *emulated.devices, "-no-reboot"]
        self._drive, self._cache = emulated.disk, emulated.cache
        self._card, self._recorded = card, recorded
        self._kernel = ["-kernel", str(kernel), "-initrd", str(early), "-append", f"{command_line} card.memory=2"]
        self._kernel += ["-dtb", str(tree)] if tree else []
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self.began = 0.0

    @property
    def log(self) -> Path:
        """What its console has shown since it was started last."""
        return self._logs / f"console-{self.starts}.log"

    def start(self, firmware: Path | None = None, clock: str = "utc") -> None:
        """Power on. The firmware (U-Boot) finds the kernel by itself; without one QEMU brings it, with figures of memory. `clock`: what its chip
        says."""
        self.starts += 1
        self.log.unlink(missing_ok=True)
        self.began = time.monotonic()
        how = ["-bios", str(firmware)] if firmware else self._kernel
        command = [*self._command, "-rtc", f"base={clock}", *self._disk(), *how]
        self._process = self._host.spawn("nice", "-n", "19", *command, log=self.log)

    def _disk(self) -> list[str]:
        how, *device = self._drive
        if self._recorded is None:
            return ["-drive", f"{how},file={self._card},format=raw,id=card,cache={self._cache}", *device]
        # with a write cache, so that what the machine flushes, and when, is what it has asked for
        again = "on" if self._recorded.exists() and self._recorded.stat().st_size else "off"
        self._recorded.touch()
        log = f"driver=blklogwrites,node-name=card,file=file,log=log,log-append={again},log-super-update-interval=1"
        files = [f"driver=file,node-name={n},filename={p}" for n, p in (("file", self._card), ("log", self._recorded))]
        return [word for node in (*files, log) for word in ("-blockdev", node)] + device

    def cut(self) -> None:
        """Power off, at once: nothing of the machine is asked."""
        assert self._process is not None
        self._host.signal(self._process, signal.SIGKILL)
        self._process.wait()

    def console(self) -> bytes:
        """Its text until now."""
        return self.log.read_bytes() if self.log.exists() else b""

    def alive(self) -> bool:
        """Whether the power is on."""
        return self._process is not None and self._process.poll() is None

    def agent(self) -> tuple[float, float, float]:
        """RSS and private dirty pages of the agent, in MB, as the machine has said last, and how much of both is compressed. What is compressed counts in
        both: it is the agent's, and comes back when it is used."""
        found = _AGENT.findall(self.console())
        rss, dirty, swapped = (int(value) / 1024 for value in found[-1]) if found else (0.0, 0.0, 0.0)
        return rss + swapped, dirty + swapped, swapped

    def memory(self) -> tuple[float, float]:
        """MemAvailable and the lowest that it was, in MB, as the machine has said last."""
        found = _MEMORY.findall(self.console())
        return (int(found[-1][0]) / 1000, int(found[-1][1]) / 1000) if found else (0.0, 0.0)
