"""The agent and the cloud side as systemd services, where systemd is PID 1."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from kubeedge.cli.control import call
from kubeedge.cli.errors import CommandError

_DIRECTORY = Path("/etc/systemd/system")
#: what the Python of Debian's package runs is started by the units of that package
PACKAGED_PYTHON = "/usr/lib/kubeedge/bin/python3"
_PACKAGED = Path("/usr/lib/systemd/system")
_TIMEOUT = 300.0  # seconds; what does not start fails at once, and Python on a cold card takes its time


class Unit(NamedTuple):
    """A service: the name of its file, the command that it runs, what it is, and its own lines of the section [Service].

    `make deb` reads it with a Python for which nothing was compiled, so it is no dataclass of ours."""

    name: str
    verb: str
    description: str
    settings: str

    @property
    def file(self) -> Path:
        """The path of the unit among those of the administrator (systemd.unit(5))."""
        return _DIRECTORY / self.name


# TimeoutStopSec: when the machine shuts down, pods may have 300 s to end (shutdownGracePeriod).
# KillMode and Delegate: containers survive a restart of the agent, and their groups are its own business.
EDGE = Unit(
    "kubeedge-edge.service",
    "edge",
    "KubeEdge agent of this node",
    "KillMode=process\nTimeoutStopSec=360\nDelegate=yes\nTasksMax=infinity\nLimitNOFILE=65536\nOOMScoreAdjust=-999",
)
# LimitNOFILE: three descriptors a node, and those of web clients.
CLOUD = Unit(
    "kubeedge-cloud.service",
    "cloud",
    "KubeEdge cloud side",
    "LimitNOFILE=262144\nNoNewPrivileges=yes\nPrivateTmp=yes",
)

# Restart=on-failure: a stopped service stays down. StartLimitIntervalSec=0: no limit on restarts, as no administrator is there.
_TEMPLATE = """\
[Unit]
Description={description}
Documentation=https://kubeedge.io
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart={command}
Restart=on-failure
RestartSec=2
{settings}

[Install]
WantedBy=multi-user.target
"""


def has_systemd() -> bool:
    """Whether systemd runs this machine, by the same test as sd_booted(3)."""
    return Path("/run/systemd/system").is_dir()


def agent_command(root: Path) -> list[str]:
    """What starts the agent of a root directory, with this Python."""
    command = [sys.executable, "-m", "kubeedge", "edge"]
    return command if root == Path("/") else [*command, "--root-dir", str(root)]


def cloud_command(config: str) -> list[str]:
    """What starts the cloud side, with this Python; `config` when it is not the default one."""
    command = [sys.executable, "-m", "kubeedge", "cloud"]
    return [*command, "--config", config] if config else command


def packaged_command(unit: Unit) -> list[str]:
    """What starts it where Debian's package is installed."""
    return [PACKAGED_PYTHON, "-m", "kubeedge", unit.verb]


def unit_text(unit: Unit, command: list[str]) -> str:
    """The unit's file, for a command."""
    return _TEMPLATE.format(description=unit.description, command=_line(command), settings=unit.settings)


def install_and_start(unit: Unit, command: list[str]) -> None:
    """Now and at every boot. A unit of Debian's package is used as it is. Raises CommandError with systemctl's words."""
    if _is_packaged(unit, command):
        unit.file.unlink(missing_ok=True)  # of an earlier installation, without the package
    else:
        unit.file.write_text(unit_text(unit, command))
    _systemctl("daemon-reload")
    _systemctl("enable", unit.name)
    _systemctl("restart", unit.name)


def wait_until_it_answers(unit: Unit, socket: Path) -> None:
    """The next command may ask it at once. Raises CommandError when it does not come up."""
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            call(str(socket), "GET", "/v1/status", what=unit.name)
            return
        except CommandError as exc:
            if time.monotonic() > deadline:
                exc.add_note(f"journalctl -u {unit.name}")
                raise
        time.sleep(0.1)


def remove(unit: Unit, command: list[str]) -> bool:
    """Stop and forget the service that runs `command`; whether there was one. That of another root directory stays, and so does the file
    of a package's."""
    is_ours = _runs(unit, command)
    if not is_ours and not _is_packaged(unit, command):
        return False
    if has_systemd():
        _systemctl("disable", "--now", unit.name)
    if is_ours:
        unit.file.unlink()
    if has_systemd():
        _systemctl("daemon-reload")
    return True


def _is_packaged(unit: Unit, command: list[str]) -> bool:
    return command == packaged_command(unit) and (_PACKAGED / unit.name).exists()


def _runs(unit: Unit, command: list[str]) -> bool:
    """Whichever Python runs it: that of an older installation, perhaps."""
    try:
        lines = unit.file.read_text().splitlines()
    except OSError:
        return False
    arguments = _line(command[1:])
    return any(line.startswith("ExecStart=") and line.endswith(f" {arguments}") for line in lines)


def _systemctl(*arguments: str) -> None:
    try:
        done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise CommandError(f"systemctl {arguments[0]}: {exc}") from exc
    if done.returncode:
        raise CommandError(
            f"systemctl {' '.join(arguments)}: {done.stderr.strip()}", f"systemctl status {arguments[-1]}"
        )


def _line(words: list[str]) -> str:
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    """systemd.service(5), "Command lines": % and $ have a meaning, spaces need quotes."""
    plain = word.replace("%", "%%").replace("$", "$$").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain}"' if plain != word or " " in word else word
