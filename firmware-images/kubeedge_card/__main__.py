"""From a machine that has started to the agent, which this process becomes. init starts it again when that ends.

Every start reads the boot partition's file anew. Its token is used where the machine has not joined yet, and removed from the file when it has.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from pathlib import Path

import yaml

import kubeedge
from kubeedge.cli.main import main as kubeedge_command
from kubeedge_card import boot_partition, config, machine, status

FILE = "kubeedge.yaml"
_JOINED = Path("/etc/kubeedge/node.json")
_AGENT_CONFIG = Path("/etc/kubeedge/kubeedge.yaml")
_PAUSE = Path("/run/agent-pause")  # seconds before the next try
_PROBLEM = Path("/run/card-problem")  # what the initramfs has found wrong with the card
_LONGEST = 60  # seconds
_WAIT = "60"  # seconds for the cloud, of one try


class NotYet(Exception):
    """Why this machine cannot be a node now."""


def main() -> int:
    """The exit status of a try that failed; it does not return from one that did not."""
    wanted = None
    try:
        wanted = _read()
        _become_a_node(wanted)
    except (NotYet, OSError) as exc:
        _say("failed", str(exc), wanted)
        _wait_longer()
        return 1
    _PAUSE.unlink(missing_ok=True)
    os.execv(sys.executable, [sys.executable, "-OO", "-m", "kubeedge", "edge"])


def _read() -> config.CardConfig:
    try:
        text = boot_partition.read(FILE, config.MAX_BYTES)
        if text is None:
            raise NotYet(f"there is no {FILE} on the boot partition; {FILE}.example beside it says what is in it")
        return config.parse(yaml.safe_load(text))
    except (ValueError, yaml.YAMLError, RecursionError) as exc:
        # never what a line of it has in it: that may be the token
        mark = getattr(exc, "problem_mark", None)
        where = f"line {mark.line + 1}: {getattr(exc, 'problem', '')}" if mark else str(exc)
        raise NotYet(f"{FILE}: {where}") from exc


def _become_a_node(wanted: config.CardConfig) -> None:
    machine.name(wanted.name)
    machine.zone(wanted.time_zone)
    lacking = machine.network(wanted.network)
    machine.ssh(wanted)
    _configure_agent(wanted)
    if not _JOINED.exists():
        if lacking:
            raise NotYet(lacking)
        machine.clock(wanted.time_servers)
        _join(wanted)
    elif not lacking:
        machine.clock(wanted.time_servers)
    if wanted.token and (text := boot_partition.read(FILE, config.MAX_BYTES)) is not None:
        boot_partition.write(FILE, config.without_token(text))
    _say("joined", _PROBLEM.read_text().strip() if _PROBLEM.exists() else "", wanted)


def _configure_agent(wanted: config.CardConfig) -> None:
    if wanted.agent:
        text = yaml.safe_dump(
            {"apiVersion": "edge.kubeedge.io/v1alpha1", "kind": "EdgeCore", **wanted.agent}, sort_keys=False
        )
        _AGENT_CONFIG.write_text(text)
        _AGENT_CONFIG.chmod(0o600)


def _join(wanted: config.CardConfig) -> None:
    if not wanted.token:
        raise NotYet(f"this machine has not joined, and {FILE} has no token")
    _say("joining", f"asking {wanted.cloud}", wanted)
    said = io.StringIO()
    arguments = ["join", "--token", wanted.token, "--name", wanted.name, "--wait", _WAIT, "--no-start", wanted.cloud]
    try:
        with contextlib.redirect_stderr(said):
            failed = kubeedge_command(arguments)
    except SystemExit as exc:
        failed = int(exc.code or 0)
    if failed or not _JOINED.exists():
        raise NotYet(said.getvalue().replace(wanted.token, "TOKEN") or f"kubeedge join: status {failed}")


def _say(state: str, reason: str, wanted: config.CardConfig | None) -> None:
    """On the console, and in a file of the boot partition."""
    name = wanted.name if wanted else ""
    own = machine.addresses(wanted.network.interface) if wanted else ""
    print(f"card: {state} {name} {own} {reason}".rstrip(), flush=True)
    text = status.text(state, reason, name=name, addresses=own, version=kubeedge.__version__, now=time.time())
    try:
        boot_partition.write(status.NAME, text)
    except OSError as exc:
        print(f"card: {exc}", flush=True)


def _wait_longer() -> None:
    """init runs this again after so many seconds: 2, 4, 8, ..."""
    try:
        last = int(_PAUSE.read_text())
    except (OSError, ValueError):
        last = 1
    _PAUSE.write_text(str(min(_LONGEST, max(1, last) * 2)))


if __name__ == "__main__":
    sys.exit(main())
