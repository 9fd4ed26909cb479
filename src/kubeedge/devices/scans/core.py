"""What the cloud may ask a node to scan, and what the node says it has found. Pure.

    /desired/scans/_/scan            {"id", "networks", "radios", "finders", "units", "seconds", "until"}: written by the administrator's routes
    /reported/scans/_/scan           {"id", "state": "running" or "done", "found", "errors"}
    /reported/discoveries/_/NAME     {"finder", "protocol", "config", "info", "time"}: the DeviceController makes an unapproved Device of it

What is found is the word of strangers, and comes by the node's broker, too, where any program of the node may speak: all of it has bounds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from kubeedge.api import meta, strict_json
from kubeedge.api.json_bounds import JsonBounds
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass

MAX_SECONDS = 300.0
MAX_DISCOVERIES = 128  # that a node keeps
KEEP = 86_400_000  # milliseconds that a discovery is kept
_BOUNDS = JsonBounds(values=8_000)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_WORD = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_ARGUMENT = re.compile(r"[0-9A-Za-z][0-9A-Za-z./:]{0,63}")  # none of them can be an option
_MAX_ENTRIES = 16  # of a config, and of an info
_MAX_TEXT = 512  # characters
_MAX_LIST = 16


@dataclass(frozen=True, slots=True)
class ScanOrder:
    """`until`: milliseconds since 1970 after which nobody waits for it any more."""

    id: str
    arguments: tuple[str, ...]
    seconds: float
    until: int


def order(value: bytes) -> ScanOrder:
    """A row of the cloud. Raises Invalid."""
    found = strict_json.loads(value, bounds=_BOUNDS)
    if not isinstance(found, dict):
        raise Invalid("a scan is no JSON object")
    identifier, seconds, until = found.get("id"), found.get("seconds"), found.get("until")
    if not isinstance(identifier, str) or not _NAME.fullmatch(identifier):
        raise Invalid("a scan has no id")
    if not _is_number(seconds) or not 0 < seconds <= MAX_SECONDS or not _is_number(until):
        raise Invalid("a scan has no end")
    arguments = [*_listed(found, "networks"), "--seconds", str(seconds)]
    for option, key in (("--radio", "radios"), ("--finder", "finders"), ("--unit", "units")):
        for text in _listed(found, key):
            arguments += [option, text]
    return ScanOrder(identifier, tuple(arguments), float(seconds), int(until))


def _listed(found: Mapping[str, Any], key: str) -> list[str]:
    items = found.get(key) or []
    if not isinstance(items, list) or len(items) > _MAX_LIST:
        raise Invalid(f"{key} is no list of at most {_MAX_LIST}")
    texts = [str(item) for item in items]
    if wrong := [text for text in texts if not _ARGUMENT.fullmatch(text)]:
        raise Invalid(f"{key}: {wrong[0][:64]!r} is nothing to scan")
    return texts


def status(scan: str, state: str, found: Iterable[str] = (), errors: Mapping[str, str] | None = None) -> bytes:
    """What the node says about the scan that it was asked for."""
    errors = {name[:64]: text[:_MAX_TEXT] for name, text in list((errors or {}).items())[:_MAX_ENTRIES]}
    return meta.canonical({"id": scan, "state": state, "found": sorted(found)[:MAX_DISCOVERIES], "errors": errors})


def discoveries(findings: Any, now: int) -> dict[str, bytes]:
    """Name -> row of each finding. Raises Invalid for what is none. `now`: milliseconds since 1970."""
    if not isinstance(findings, list) or len(findings) > MAX_DISCOVERIES:
        raise Invalid(f"findings are no list of at most {MAX_DISCOVERIES}")
    found = {}
    for one in findings:
        name = one.get("name") if isinstance(one, dict) else None
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise Invalid("a finding has no name")
        finder, protocol = one.get("finder"), one.get("protocol")
        if not all(isinstance(text, str) and _WORD.fullmatch(text) for text in (finder, protocol)):
            raise Invalid(f"finding {name}: finder and protocol must be words")
        row = {"finder": finder, "protocol": protocol, "time": now}
        for key in ("config", "info"):
            row[key] = _scalars(one.get(key, {}), f"finding {name}: {key}")
        found[name] = meta.canonical(row)
    return found


def _scalars(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > _MAX_ENTRIES:
        raise Invalid(f"{what} is no mapping of at most {_MAX_ENTRIES}")
    for key, item in value.items():
        if len(key) > 64 or not isinstance(item, str | int | float) or len(str(item)) > _MAX_TEXT:
            raise Invalid(f"{what}: {key[:64]!r} must be a short text or a number")
    return value


def outdated(rows: Mapping[str, bytes], new: Iterable[str], now: int) -> list[str]:
    """Names of discoveries that go: those of long ago, then the oldest ones, so that the new ones have room."""
    new = set(new)
    times = sorted((_time(value), name) for name, value in rows.items() if name not in new)
    gone = [name for time, name in times if not now - KEEP <= time <= now + KEEP]
    excess = len(times) - len(gone) + len(new) - MAX_DISCOVERIES
    return gone + [name for _, name in times if name not in gone][: max(0, excess)]


def _time(value: bytes) -> int:
    try:
        found = strict_json.loads(value, bounds=_BOUNDS)
    except Invalid:
        return 0
    time = found.get("time") if isinstance(found, dict) else 0
    return time if isinstance(time, int) else 0


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
