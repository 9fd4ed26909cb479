"""A process beside the agent of an image on trial: once the agent has reached the cloud (or works, where that is enough) the image is good; where it
does not within a time the machine starts again, with the image that it had."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from kubeedge.errors import KubeEdgeError
from kubeedge.imageupdate import card, core
from kubeedge_card import boot_partition, config, document, trial
from kubeedge_card.config import Updates
from kubeedge_card.status import NAME as STATUS

_SOCKET = Path("/run/kubeedge/edge.sock")
_LAST = Path("/etc/kubeedge/card.yaml")
_EVERY = 5.0  # seconds
_MAX_ANSWER = 1 << 20  # bytes


def main() -> int:
    """The exit status: 0 when the image is good."""
    wanted = settings(_LAST)
    reason = prove(wanted, status, time.monotonic, time.sleep)
    try:
        said = _note(reason)
    except (KubeEdgeError, OSError) as exc:
        said = f"{reason or 'the image works'}; that cannot be written: {exc}"
    print(f"card: {said}{'; starting again' if reason else ''}", flush=True)
    if reason:  # whatever became of the record: the image before is the one that starts next
        trial.restart()
    return 1 if reason else 0


def _note(reason: str) -> str:
    """Into the record of the slots; what there is to say. Raises KubeEdgeError, OSError."""
    with card.opened() as own:
        slots = own.record()
        running = card.running(slots)
        own.write_record(core.failed(slots, reason) if reason else core.works(slots, running))
    version = slots.images[running].version
    works = f"image {version} in slot {core.name(running)} works"
    if not reason:
        _tell(trial.on_trial(version), works)
    return reason or works


def _tell(before: str, now: str) -> None:
    """In the status file, which says otherwise until the next start that the image is on trial. A card that cannot be written keeps no image from
    being good."""
    with contextlib.suppress(OSError, ValueError):
        if text := boot_partition.read(STATUS, config.MAX_BYTES):
            boot_partition.write(STATUS, text.replace(before, now))


def prove(
    wanted: Updates, look: Callable[[], Mapping[str, Any]], clock: Callable[[], float], sleep: Callable[[float], None]
) -> str:
    """ "" once the agent is where it should be; why not, after the time for it."""
    until = clock() + wanted.minutes * 60
    last = "the agent does not answer"
    while clock() < until:
        try:
            found = look()
            if wanted.good == "running" or (found.get("channel") or {}).get("attached"):
                return ""
            last = (
                f"the agent has not reached the cloud: {(found.get('channel') or {}).get('lastError') or 'no channel'}"
            )
        except (OSError, ValueError) as exc:
            last = f"the agent does not answer: {exc}"
        sleep(_EVERY)
    return f"{last} (after {wanted.minutes} minutes)"


def status() -> Mapping[str, Any]:
    """What the agent says of itself. Raises OSError, ValueError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_EVERY * 2)
        connection.connect(str(_SOCKET))
        connection.sendall(b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        answer = bytearray()
        while len(answer) < _MAX_ANSWER and (data := connection.recv(65536)):
            answer += data
    found = json.loads(bytes(answer).partition(b"\r\n\r\n")[2])
    if not isinstance(found, dict):
        raise ValueError("no status")
    return found


def settings(path: Path) -> Updates:
    """What the boot partition has said last; without that, what holds where it says nothing."""
    try:
        return config.parse(document.plain(path.read_text())).updates
    except (OSError, ValueError, yaml.YAMLError):
        return Updates()


if __name__ == "__main__":
    sys.exit(main())
