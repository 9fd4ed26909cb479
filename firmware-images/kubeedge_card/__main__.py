"""From a machine that has started to the agent, which this process becomes. init starts it again when that ends.

Every start reads the boot partition's file anew. Its token is used where the machine has not joined yet, and removed from the file when it has.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml

import kubeedge
from kubeedge.cli import agent_process
from kubeedge.config import edge, node_credentials
from kubeedge.errors import Invalid, KubeEdgeError
from kubeedge_card import boot_partition, cloud_init, config, document, led, machine, status, trial

FILE = "kubeedge.yaml"
_CLOUD_INIT = ("user-data", "network-config")  # what Raspberry Pi Imager writes; kubeedge.yaml has the last word
_JOINED = Path("/etc/kubeedge/node.json")
_AGENT_CONFIG = Path("/etc/kubeedge/kubeedge.yaml")
_OURS = "# `agent` of kubeedge.yaml on the boot partition; what is edited here is lost at the next start\n"
_LAST = Path("/etc/kubeedge/card.yaml")  # what the boot partition had last, without the token
_PAUSE = Path("/run/agent-pause")  # seconds before the next try
_PROBLEM = Path("/run/card-problem")  # what the initramfs has found wrong with the card
_LONGEST = 60  # seconds
_WAIT = "60"  # seconds for the cloud, of one try


class NotYet(Exception):
    """Why this machine cannot be a node now."""


class WaitsForApproval(NotYet):
    """Somebody in the cloud has to approve this board: nothing is wrong with it."""


def main() -> int:
    """The exit status of a try that failed; it does not return from one that did not. A machine that has joined works on with what it was told
    last, whatever is on the card now: somebody far away may have no other way to reach it."""
    problems = [_PROBLEM.read_text().strip()] if _PROBLEM.exists() else []
    problems += filter(None, [trial.at_start()])
    wanted = None
    try:
        text, wanted = _read(problems)
        wanted = _named(wanted)
        problems += _set_up(wanted)
        if damage := _no_node():
            _join(wanted, damage)
            if wanted.join_key:
                wanted = dataclasses.replace(wanted, name=_joined_name())
                machine.name(wanted.name)
        _remember(text)
        problems += _forget_token(wanted)
        agent = _agent()
    except (NotYet, OSError, ValueError, KubeEdgeError) as exc:  # a worn card may have anything in its files
        state = "joining" if isinstance(exc, WaitsForApproval) else "failed"
        _say(state, "\n".join([str(exc), *problems]), wanted)
        _wait_longer()
        return 1
    _say("joined", "\n".join(problems), wanted)
    _PAUSE.unlink(missing_ok=True)
    _never_wait_for_console()
    agent_process.become(agent, node_credentials.credentials_path(agent.paths), ["edge"])


def _read(problems: list[str]) -> tuple[str, config.CardConfig]:
    """Of the boot partition; of the last time, which is added to `problems`, where that cannot be used."""
    try:
        text = boot_partition.read(FILE, config.MAX_BYTES)
        of_imager, ignored = _of_imager()
        if text is None and not of_imager:
            raise NotYet(f"there is no {FILE} on the boot partition; {FILE}.example beside it says what is in it")
        if of_imager:
            # one text of all of them, which is what is remembered
            text = yaml.safe_dump({**of_imager, **_fields(_yaml(FILE, text or ""))}, sort_keys=False)
        wanted = _parse(text or "")
        problems += [f"ignored: {', '.join(ignored)}"] if ignored else []
        return text or "", wanted
    except (NotYet, ValueError, OSError) as exc:
        if not (_JOINED.exists() and _LAST.exists()):
            raise NotYet(str(exc)) from exc
        problems.append(f"{exc}; what was there before is used")
        text = _LAST.read_text(errors="replace")
        return text, _parse(text)


def _named(wanted: config.CardConfig) -> config.CardConfig:
    """With the name that the cloud has given this board, or one by which a network may know it until then."""
    if wanted.name:
        return wanted
    no_node = _no_node()
    if no_node and not wanted.join_key:
        raise NotYet(no_node if _JOINED.exists() else f"{FILE}: name: missing")
    digits = "".join(c for c in machine.serial(wanted.network.interface).lower() if c.isalnum())
    name = _joined_name() if not no_node else f"card-{digits[-16:]}".rstrip("-")
    return dataclasses.replace(wanted, name=name)


def _no_node() -> str:
    """ "" or why this machine is none: it has not joined, or the card has lost what it was told then."""
    try:
        node_credentials.load_credentials(_JOINED)
        return ""
    except Invalid as exc:
        return f"{exc}, in {FILE}"


def _joined_name() -> str:
    try:
        return str(node_credentials.load_credentials(_JOINED).node)
    except Invalid as exc:
        raise NotYet(f"{_JOINED}: {exc}") from exc


def _of_imager() -> tuple[dict[str, object], list[str]]:
    """Fields of kubeedge.yaml, and what of Imager's files was ignored."""
    found = [_yaml(name, boot_partition.read(name, config.MAX_BYTES) or "") for name in _CLOUD_INIT]
    return cloud_init.fields(*found)


def _fields(found: object) -> dict[str, object]:
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise NotYet(f"{FILE}: fields are expected here, as `name: value`")
    return found


def _parse(text: str) -> config.CardConfig:
    try:
        return config.parse(_yaml(FILE, text))
    except ValueError as exc:
        raise NotYet(f"{FILE}: {exc}") from exc


def _yaml(name: str, text: str) -> object:
    try:
        return document.load(name, text)
    except ValueError as exc:
        raise NotYet(str(exc)) from exc


def _set_up(wanted: config.CardConfig) -> list[str]:
    """What could not be done, none of which keeps a node from working."""
    problems = []
    steps: tuple[Callable[[], str | None], ...] = (
        lambda: machine.name(wanted.name),
        lambda: machine.zone(wanted.time_zone),
        lambda: machine.network(wanted.network),
        lambda: machine.ssh(wanted),
        lambda: machine.clock(wanted.time_servers),
        lambda: _configure_agent(wanted),
    )
    for step in steps:
        try:
            if said := step():
                problems.append(said)
        except (OSError, ValueError) as exc:
            problems.append(str(exc))
    return problems


def _configure_agent(wanted: config.CardConfig) -> str:
    """ "" or why the agent keeps the configuration that it has."""
    if wanted.agent:
        whole = {"apiVersion": edge.API_VERSION, "kind": edge.KIND, **wanted.agent}
        text = _OURS + yaml.safe_dump(whole, sort_keys=False)
    elif _AGENT_CONFIG.exists() and _AGENT_CONFIG.read_text(errors="replace").startswith(_OURS):
        text = edge.default_yaml(edge.EdgeConfig())  # what was asked for once is not any more
    else:
        return ""
    new = _AGENT_CONFIG.with_suffix(".new")
    _private_text(new, text)
    try:
        edge.load(new)
    except Invalid as exc:
        return f"agent: {exc}"
    new.replace(_AGENT_CONFIG)
    return ""


def _agent() -> edge.EdgeConfig:
    """As `kubeedge edge` has it, without a Python between this one and the agent's: on a small machine that is some seconds."""
    try:
        return edge.load(_AGENT_CONFIG) if _AGENT_CONFIG.exists() else edge.EdgeConfig()
    except Invalid as exc:
        raise NotYet(f"{_AGENT_CONFIG}: {exc}") from exc


def _remember(text: str) -> None:
    """For a start at which the boot partition has nothing that can be used."""
    text = config.without_token(text)
    if not _LAST.exists() or _LAST.read_bytes() != text.encode():
        new = _LAST.with_suffix(".new")
        _private_text(new, text)
        new.replace(_LAST)


def _forget_token(wanted: config.CardConfig) -> list[str]:
    if not (wanted.token or wanted.join_key):
        return []
    try:
        for name, without in ((FILE, config.without_token), (_CLOUD_INIT[0], cloud_init.without_token)):
            text = boot_partition.read(name, config.MAX_BYTES)
            if text is not None:
                boot_partition.write(name, without(text))
    except (OSError, ValueError) as exc:
        return [f"the token is still on the card: {exc}"]
    return []


def _private_text(path: Path, text: str) -> None:
    """A file that only root reads, and that is on the card when this returns."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _join(wanted: config.CardConfig, why: str) -> None:
    secret, is_damaged = wanted.token or wanted.join_key, _JOINED.exists()
    if not secret:
        raise NotYet(why if is_damaged else f"this machine has not joined, and {FILE} has no token")
    who, with_what = ["--name", wanted.name], ""
    if wanted.join_key:
        if not (serial := machine.serial(wanted.network.interface)):
            raise NotYet("joinKey: this board has no serial number; use name and token")
        who, with_what = ["--serial", serial], f" with the serial number {serial}"
    from kubeedge.cli.main import main as kubeedge_command  # once in a machine's life

    _say("joining", f"asking {wanted.cloud}{with_what}", wanted)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            options = [*who, *(["--force"] if is_damaged else []), "--wait", _WAIT, "--no-start"]
            failed = kubeedge_command(["join", "--token", secret, *options, wanted.cloud])
    except SystemExit as exc:
        failed = int(exc.code or 0)
    if failed or not _JOINED.exists():
        why = said.getvalue().replace(secret, "TOKEN") or f"kubeedge join: status {failed}"
        raise WaitsForApproval(why) if wanted.join_key and "waits for approval" in why else NotYet(why)


def _say(state: str, reason: str, wanted: config.CardConfig | None) -> None:
    """On the console, and in a file of the boot partition."""
    name = wanted.name if wanted else ""
    own = machine.addresses(wanted.network.interface) if wanted else ""
    print(f"card: {state} {name} {own} {reason}".rstrip(), flush=True)
    led.show(state)
    text = status.text(state, reason, name=name, addresses=own, version=kubeedge.__version__, now=time.time())
    try:
        boot_partition.write(status.NAME, text)
    except OSError as exc:
        print(f"card: {exc}", flush=True)


def _never_wait_for_console() -> None:
    """A serial line takes 11 kB a second, and what is at its other end, or nothing, may stop it (XOFF). The agent loses lines then, not its time."""
    for descriptor in (1, 2):
        if os.isatty(descriptor):
            os.set_blocking(descriptor, False)


def _wait_longer() -> None:
    """init runs this again after so many seconds: 2, 4, 8, ..."""
    try:
        last = int(_PAUSE.read_text())
    except (OSError, ValueError):
        last = 1
    _PAUSE.write_text(str(min(_LONGEST, max(1, last) * 2)))


if __name__ == "__main__":
    sys.exit(main())
