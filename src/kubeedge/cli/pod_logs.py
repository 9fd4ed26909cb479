"""`kubeedge logs`: what a container of this node has written, with the options of `kubectl logs`."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

from kubeedge.cli import local_kubelet
from kubeedge.cli.control import reading
from kubeedge.cli.errors import CommandError, UsageError

_CHUNK = 64 * 1024
_UNITS = {"s": 1, "m": 60, "h": 3600}


def run(options: argparse.Namespace) -> int:
    """Exit status 0. Raises CommandError, UsageError."""
    query = _query(options)
    pod = local_kubelet.pod(options)
    if not options.all_containers:
        _print(options, pod, local_kubelet.container(pod, options.container or options.name or ""), query)
        return 0
    names = local_kubelet.containers(pod)
    if not options.follow:
        for name in names:
            _print(options, pod, name, query)
        return 0
    followers = [threading.Thread(target=_follow, args=(options, pod, name, query), daemon=True) for name in names]
    for one in followers:
        one.start()
    for one in followers:
        one.join()
    return 0


def _query(options: argparse.Namespace) -> list[tuple[str, str]]:
    if options.since and options.since_time:
        raise UsageError("--since and --since-time exclude each other")
    query = [(name, "true") for name in ("follow", "previous", "timestamps") if getattr(options, name)]
    if options.tail is not None and options.tail >= 0:
        query.append(("tailLines", str(options.tail)))
    if options.limit_bytes is not None:
        query.append(("limitBytes", str(options.limit_bytes)))
    if options.since:
        query.append(("sinceSeconds", str(_seconds(options.since))))
    if options.since_time:
        query.append(("sinceTime", options.since_time))
    return query


def _seconds(text: str) -> int:
    """ "90", "90s", "2m", "1h30m". Raises UsageError."""
    total, number = 0, ""
    for character in text if text[-1:].isalpha() else f"{text}s":
        if character.isascii() and character.isdigit() and len(number) < 9:
            number += character
        elif number and character in _UNITS:
            total, number = total + int(number) * _UNITS[character], ""
        else:
            raise UsageError(f"--since {text}: not a time like 5s, 2m or 3h")
    return max(1, total)


def _follow(options: argparse.Namespace, pod: dict[str, Any], container: str, query: list[tuple[str, str]]) -> None:
    try:
        _print(options, pod, container, query)
    except (CommandError, OSError) as exc:  # of one of several: the others go on
        print(f"kubeedge logs: {container}: {exc}", file=sys.stderr)


def _print(options: argparse.Namespace, pod: dict[str, Any], container: str, query: list[tuple[str, str]]) -> None:
    out: BinaryIO = sys.stdout.buffer
    prefix = f"[pod/{pod['metadata']['name']}/{container}] ".encode() if options.prefix else b""
    lines = options.prefix or (options.all_containers and options.follow)
    for piece in _pieces(options.socket, local_kubelet.target("containerLogs", pod, container, query), lines):
        out.write(prefix + piece)
        out.flush()


def _pieces(socket: str, target: str, whole_lines: bool) -> Iterator[bytes]:
    """As they come: a log that is followed may say nothing for days."""
    with reading(socket, target) as answer:
        yield from iter(answer.readline if whole_lines else lambda: answer.read1(_CHUNK), b"")
