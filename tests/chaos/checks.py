"""What must be true after the faults: functions of journals, readings and histories that return what is wrong.

counted       each number was applied once, in order; what was acknowledged is there
observed      a reader never saw a resourceVersion or a number go back, and a watcher missed nothing
followed      at every revision of the sink, its last sync revision is not ahead of its data
same          both ends hold the same bytes
pods          what was created and not deleted is there, and nothing else
unharmed      no write of the edge was answered with anything but "merged"
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.chaos.journal import History, Journal, Pods, Readings

REGISTRY = "/t/default/registry/"
EVENTS = f"{REGISTRY}core/events/"
FLIP = "-flip"  # behind the name of a number: the name of the field that is its parity
TOTAL = "total"  # the sum of all numbers of a tally
_LAST = "\U0010ffff"  # behind all keys
_MOST = 5  # complaints of one kind


def fields_of(obj: Mapping[str, Any], place: Sequence[str]) -> Mapping[str, Any]:
    found: Any = obj
    for part in place:
        found = found.get(part) or {} if isinstance(found, dict) else {}
    return found if isinstance(found, dict) else {}


def number(obj: Mapping[str, Any], path: Sequence[str]) -> int:
    return int(fields_of(obj, path[:-1]).get(path[-1], 0))


def counted(cloud: History, journal: Journal, edge: History | None = None) -> list[str]:
    """`edge` is the store of the node at which the journal's writer writes."""
    wrong = list(journal.wrong)
    path, place, name = journal.field, journal.field[:-1], journal.field[-1]
    now, first, at = 0, True, dict[int, int]()
    for revision, value in cloud.values(REGISTRY + journal.key):
        obj = json.loads(value) if value is not None else {}
        then = number(obj, path)
        if then != now and not first:
            if then < now:
                wrong.append(f"revision {revision}: {name} went back from {now} to {then}")
            elif then > now + 1:
                wrong.append(f"revision {revision}: {name} went from {now} to {then}: {then - now - 1} are missing")
            at[then] = revision
        if first:
            at[then] = revision
        flip = fields_of(obj, place).get(name + FLIP)
        if flip is not None and int(flip) != then % 2:
            wrong.append(f"revision {revision}: {name} is {then} and {name + FLIP} {flip}: half a write, or one twice")
        now, first = then, False
    newest = max(journal.acknowledged, default=0)
    if now < newest:
        wrong.append(f"{name} is {now} in the end, and {newest} was acknowledged")
    if now > journal.attempted:
        wrong.append(f"{name} is {now} in the end, and {journal.attempted} was the last that was tried")
    for n, version in journal.acknowledged.items():
        if n not in at:
            wrong.append(f"{name} {n} was acknowledged and never was")
        elif edge is None and at[n] != version:
            wrong.append(f"{name} {n} was acknowledged at revision {version} and applied at {at[n]}")
    if edge is not None:
        wrong += _queued(edge, journal)
    return _some(f"writer {journal.name}", wrong)


def _queued(edge: History, journal: Journal) -> list[str]:
    """An acknowledged write at the edge is in its store at the revision that was answered."""
    made: dict[int, list[int]] = {}
    for revision, changes in edge.revisions:
        for key, value in changes.items():
            if not key.startswith("/reported/writes/") or value is None:
                continue
            for change in json.loads(value).get("changes", ()):
                if tuple(change["path"]) == journal.field:
                    made.setdefault(int(change["now"]), []).append(revision)
    return [
        f"{journal.field[-1]} {n} was acknowledged at revision {version} of the edge, which wrote it at {made.get(n)}"
        for n, version in journal.acknowledged.items()
        if version not in made.get(n, ())
    ]


def tally(cloud: History, key: str) -> list[str]:
    """In every state the sum of what the writers counted is the total."""
    wrong = []
    for revision, value in cloud.values(REGISTRY + key):
        data = (json.loads(value) if value is not None else {}).get("data") or {}
        parts = sum(int(v) for k, v in data.items() if k != TOTAL and not k.endswith(FLIP))
        if int(data.get(TOTAL, 0)) != parts:
            wrong.append(f"revision {revision}: the total is {data.get(TOTAL)} and the parts are {parts}")
    return _some(key, wrong)


def observed(readings: Readings, journals: Iterable[Journal] = ()) -> list[str]:
    """`journals`: of writers whose acknowledged changes a watcher must have been told, one by one."""
    wrong = list(readings.wrong)
    versions: dict[str, int] = {}
    numbers: dict[tuple[str, str], int] = {}
    got: dict[str, set[int]] = {}
    for place, version, fields in readings.seen:
        before = versions.get(place, 0)
        if version < before or (readings.watching and version == before):
            wrong.append(f"{place}: resourceVersion {version} after {before}")
        versions[place] = max(version, before)
        got.setdefault(place, set()).add(version)
        for name, value in fields.items():
            if value < numbers.get((place, name), 0):
                wrong.append(f"{place}: {name} is {value} after {numbers[place, name]}")
            numbers[place, name] = value
    if readings.watching:
        for journal in journals:
            place = journal.key.rpartition("/")[2]
            for n, version in journal.acknowledged.items():
                hidden = any(version <= gap for gap in readings.gaps)
                if version > readings.start and not hidden and version not in got.get(place, ()):
                    wrong.append(f"{place}: was not told of {journal.field[-1]} {n} at {version}")
    return _some(f"reader {readings.name}", wrong)


def followed(source: History, above: str, sink: History, below: str, lsr_key: str) -> list[str]:
    """`above` and `below` are the prefixes of what is synced, in the source and in the sink."""
    versions: dict[str, list[tuple[int, bytes | None]]] = {}
    for revision, changes in source.revisions:
        for key, value in changes.items():
            if key.startswith(above):
                versions.setdefault(key.removeprefix(above), []).append((revision, value))
    begun = source.revisions[0][0] if source.revisions else 0  # nobody knows what it had before
    touched = sorted((revision, key) for key, found in versions.items() for revision, _ in found)
    wrong: list[str] = []
    state: dict[str, bytes] = {}
    lsr = ("", 0)
    for revision, changes in sink.revisions:
        look: set[str] = set()
        for key, value in changes.items():
            if key.startswith(below):
                look.add(key.removeprefix(below))
                if value is None:
                    state.pop(key.removeprefix(below), None)
                else:
                    state[key.removeprefix(below)] = value
        if lsr_key in changes:
            store, at = json.loads(changes[lsr_key] or b'["", 0]')
            if store == lsr[0] and at < lsr[1]:
                wrong.append(f"revision {revision}: the last sync revision went back from {lsr[1]} to {at}")
            if store != lsr[0] or lsr[1] < begun:
                look |= versions.keys() | state.keys()
            else:  # the others are as new as they were
                between = slice(bisect_right(touched, (lsr[1], _LAST)), bisect_right(touched, (at, _LAST)))
                look |= {key for _, key in touched[between]}
            lsr = (store, at)
        if not lsr[0] or lsr[1] < begun:
            continue
        for key in look:
            if not _as_new_as(versions.get(key, ()), lsr[1], state.get(key)):
                wrong.append(f"revision {revision}: {key} is older than the last sync revision {lsr[1]}")
    return _some(f"sync from {above} to {below}", wrong)


def _as_new_as(versions: Sequence[tuple[int, bytes | None]], revision: int, value: bytes | None) -> bool:
    """Is it the value that the source had at that revision, or a later one?"""
    start = bisect_right(versions, revision, key=lambda pair: pair[0])
    at = versions[start - 1][1] if start else None
    return value == at or any(value == later for _, later in versions[start:])


def same(what: str, one: Mapping[str, bytes], other: Mapping[str, bytes]) -> list[str]:
    different = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    return _some(what, [f"{key} differs: {one.get(key)!r:.300} and {other.get(key)!r:.300}" for key in different])


def pods(cloud: History, node: str, journal: Pods) -> list[str]:
    """In the registry and in what the node has."""
    wrong: list[str] = []
    desired = f"/t/default/edge/{node}/desired/pods/default/"
    for place, prefix in (("the API", f"{REGISTRY}core/pods/default/"), (f"node {node}", desired)):
        there = {name for name in cloud.below(prefix) if name.startswith(f"{journal.name}-")}
        wrong += [f"{name} was created and is not in {place}" for name in journal.created - journal.deleting - there]
        wrong += [f"{name} was deleted and is in {place}" for name in journal.deleted & there]
        wrong += [f"{name} in {place} was never created" for name in there - journal.attempted]
    for name in journal.attempted:
        births = 0
        alive = False
        for _, value in cloud.values(f"{REGISTRY}core/pods/default/{name}"):
            births += value is not None and not alive
            alive = value is not None
        if births > 1:
            wrong.append(f"{name} was created {births} times")
    return _some(f"writer {journal.name}", wrong)


def ready(name: str, node: Mapping[str, Any]) -> list[str]:
    """A node that is attached is Ready and has no taint of those that are away."""
    conditions = {c["type"]: c["status"] for c in fields_of(node, ("status",)).get("conditions") or ()}
    wrong = []
    if conditions.get("Ready") != "True":
        wrong.append(f"Ready is {conditions.get('Ready')}")
    if taints := fields_of(node, ("spec",)).get("taints"):
        wrong.append(f"it has taints: {taints}")
    return _some(f"node {name}", wrong)


def unharmed(cloud: History) -> list[str]:
    wrong = []
    for _, changes in cloud.revisions:
        for key, value in changes.items():
            if key.startswith(EVENTS) and value is not None:
                event = json.loads(value)
                if str(event.get("reason", "")).startswith("EdgeWrite"):
                    wrong.append(f"{event['reason']}: {event.get('message')}")
    return _some("writes of the edge", wrong)


def _some(who: str, wrong: Sequence[str]) -> list[str]:
    more = [f"{who}: and {len(wrong) - _MOST} more of {len(wrong)}"] if len(wrong) > _MOST else []
    return [f"{who}: {text}" for text in wrong[:_MOST]] + more
