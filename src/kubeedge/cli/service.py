"""The agent as a systemd service, where systemd is PID 1."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kubeedge.cli.errors import CommandError

UNIT = "kubeedge-edge.service"
UNIT_FILE = Path("/etc/systemd/system") / UNIT
_TIMEOUT = 60.0  # seconds

# KillMode and Delegate: containers survive a restart of the agent, and their groups are its own business.
# Restart=on-failure: an agent that was told to stop stays down.
_TEMPLATE = """\
[Unit]
Description=KubeEdge agent of this node
Documentation=https://kubeedge.io
Wants=network-online.target
After=network-online.target

[Service]
ExecStart={command}
Restart=on-failure
RestartSec=2
KillMode=process
Delegate=yes
TasksMax=infinity
LimitNOFILE=65536
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
"""


def has_systemd() -> bool:
    """As sd_booted(3) asks."""
    return Path("/run/systemd/system").is_dir()


def agent_command(root: Path) -> list[str]:
    command = [sys.executable, "-m", "kubeedge", "edge"]
    return command if root == Path("/") else [*command, "--root-dir", str(root)]


def unit_text(command: list[str]) -> str:
    return _TEMPLATE.format(command=" ".join(_quoted(word) for word in command))


def install_and_start(root: Path) -> None:
    UNIT_FILE.write_text(unit_text(agent_command(root)))
    _systemctl("daemon-reload")
    _systemctl("enable", UNIT)
    _systemctl("restart", UNIT)


def remove() -> bool:
    """Stop and forget the service; whether there was one."""
    if not has_systemd() or not UNIT_FILE.exists():
        return False
    _systemctl("disable", "--now", UNIT)
    UNIT_FILE.unlink()
    _systemctl("daemon-reload")
    return True


def _systemctl(*arguments: str) -> None:
    try:
        done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise CommandError(f"systemctl {arguments[0]}: {exc}") from exc
    if done.returncode:
        raise CommandError(f"systemctl {' '.join(arguments)}: {done.stderr.strip()}", f"systemctl status {UNIT}")


def _quoted(word: str) -> str:
    """systemd.service(5), "Command lines": % and $ have a meaning, spaces need quotes."""
    plain = word.replace("%", "%%").replace("$", "$$").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain}"' if plain != word or " " in word else word
