"""The MVCC rules as a pure function: what a transaction means for a view of the newest values.

Lives here:      compares, the effect of put and delete on versions, what a transaction may not do (check), limits.
Lives elsewhere: where the newest values and the history are kept (memory.py, sqlite_history.py), watches (watch.py).

Worked example, starting at revision 1 (empty):

    txn put a=x            -> revision 2: a {create 2, mod 2, version 1}
    txn put a=y, put b=z   -> revision 3: a {create 2, mod 3, version 2}, b {create 3, mod 3, version 1}
    txn delete a           -> revision 4: a is gone; its generation ended
    txn delete a           -> still revision 4: nothing changed
    txn put a=w            -> revision 5: a {create 5, mod 5, version 1}
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Protocol, TypeAlias

from kubeedge.api.names import Revision
from kubeedge.errors import Invalid, Misuse
from kubeedge.kit.dataclasses import dataclass
from kubeedge.store.model import (
    MAX_KEY,
    MAX_VALUE,
    Change,
    ChangeKind,
    Compare,
    CompareTarget,
    Delete,
    Get,
    KeyValue,
    Op,
    Put,
    RangeResult,
)

FIRST_REVISION = Revision(1)  # of an empty store, as in etcd
MAX_OPS = 4096  # in one transaction; etcd's default is 128, a sync batch wants more


Head: TypeAlias = tuple[Revision, int]  # create_revision, version


class View(Protocol):
    """The newest values, before the transaction."""

    def newest(self, key: str) -> KeyValue | None:
        """A live key with its value."""
        ...

    def head(self, key: str) -> Head | None:
        """What a put or delete needs to know of a live key; its value may be large."""
        ...

    def newest_range(self, key: str, end: str) -> Sequence[KeyValue]:
        """Live keys in [key, end), in order."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a transaction does to the store, and what its caller is told."""

    succeeded: bool
    revision: Revision  # after the transaction
    changes: Sequence[Change]
    responses: Sequence[RangeResult | int | None]


def check(compares: Sequence[Compare], *branches: Sequence[Op]) -> None:
    """Refuse what is wrong whatever the store holds, in the branch that will not be taken too (as etcd does).

    Raises Invalid (sizes, keys) or Misuse (operators, a key that is written twice). A store calls it before anything else,
    so that one caller's mistake never reaches the transactions that share a commit with it.
    """
    if max(len(compares), *(len(ops) for ops in branches)) > MAX_OPS:
        raise Invalid(f"a transaction of more than {MAX_OPS} operations")
    for compare in compares:
        check_range(compare.key)
        if isinstance(compare.operand, bytes) is not (compare.target is CompareTarget.VALUE):
            raise Misuse(f"compare of {compare.target.value} with {type(compare.operand).__name__}")
        if compare.op not in ("=", "!=", "<", ">"):
            raise Misuse(f"unknown operator {compare.op!r}")
    for ops in branches:
        _check_ops(ops)


def _check_ops(ops: Sequence[Op]) -> None:
    puts: set[str] = set()
    for op in ops:
        if isinstance(op, Put):
            check_key(op.key)
            if len(op.value) > MAX_VALUE:
                raise Invalid(f"value of {len(op.value)} bytes at {op.key} exceeds {MAX_VALUE}")
            if op.key in puts:
                raise Misuse(f"key {op.key} is written twice in one transaction")
            puts.add(op.key)
        else:
            check_range(op.key, op.end)
    deletes = [op for op in ops if isinstance(op, Delete)]
    in_order = sorted(puts) if deletes else []
    for op in deletes:
        if puts:
            first = bisect_left(in_order, op.key)
            if op.key in puts or (op.end and first < len(in_order) and in_order[first] < op.end):
                raise Misuse(f"key {in_order[first]} is put and deleted in one transaction")


def evaluate(
    view: View, revision: Revision, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op]
) -> Outcome:
    """Decide one transaction that check() has passed."""
    succeeded = all(_holds(c, view.newest(c.key)) for c in compares)
    next_revision = Revision(revision + 1)
    written: dict[str, Change | None] = {}
    changes: list[Change] = []
    responses: list[RangeResult | int | None] = []
    for op in success if succeeded else failure:
        match op:
            case Put():
                created, version = view.head(op.key) or (next_revision, 0)
                change = Change(ChangeKind.PUT, op.key, op.value, next_revision, created, version + 1, op.lease)
                written[op.key] = change
                changes.append(change)
                responses.append(None)
            case Delete():
                if op.end:
                    found = [kv.key for kv in view.newest_range(op.key, op.end)]
                else:
                    found = [op.key] if view.head(op.key) else []
                victims = [key for key in found if key not in written]  # an earlier delete took the rest
                for victim in victims:
                    written[victim] = None
                    changes.append(Change(ChangeKind.DELETE, victim, b"", next_revision))
                responses.append(len(victims))
            case Get():
                responses.append(_read(view, written, op, next_revision if changes else revision))
    return Outcome(succeeded, next_revision if changes else revision, changes, tuple(responses))


def check_key(key: str) -> None:
    """A key that may be put."""
    length = len(key) if key.isascii() else len(_utf8(key))
    if not 0 < length <= MAX_KEY or "\0" in key:
        raise Invalid(f"key {key[:80]!r} is empty, longer than {MAX_KEY} bytes, or has a zero byte")


def check_range(key: str, end: str = "") -> None:
    """A key or range that may be read or deleted. From the beginning of the store is ("", end)."""
    if not key and not end:
        raise Invalid("key '' is empty")
    if not (key.isascii() and end.isascii()):
        _utf8(key)
        _utf8(end)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise Invalid(f"key {text[:80]!r} has a lone surrogate, which UTF-8 cannot express") from exc


def _read(view: View, written: dict[str, Change | None], op: Get, revision: Revision) -> RangeResult:
    if not op.end:
        if op.key in written:
            own = written[op.key]
            single = key_value(own) if own else None
        else:
            single = view.newest(op.key)
        return RangeResult((single,), revision, False, 1) if single else RangeResult((), revision)
    merged = {kv.key: kv for kv in view.newest_range(op.key, op.end)}
    for key, change in written.items():
        if op.key <= key < op.end:
            if change is None:
                merged.pop(key, None)
            else:
                merged[key] = key_value(change)
    found = [merged[key] for key in sorted(merged)]
    limited = found[: op.limit] if op.limit else found
    return RangeResult(tuple(limited), revision, len(limited) < len(found), len(found))


def key_value(put: Change) -> KeyValue:
    """What a put left under its key."""
    return KeyValue(put.key, put.value, put.create_revision, put.revision, put.version, put.lease)


def _holds(compare: Compare, kv: KeyValue | None) -> bool:
    have: bytes | int | None
    match compare.target:
        case CompareTarget.VALUE:
            have = kv.value if kv else None
        case CompareTarget.VERSION:
            have = kv.version if kv else 0
        case CompareTarget.CREATE:
            have = kv.create_revision if kv else 0
        case CompareTarget.MOD:
            have = kv.mod_revision if kv else 0
    want = compare.operand
    if have is None:
        return False  # as etcd: a compare of the value of an absent key never holds
    match compare.op:
        case "=":
            return have == want
        case "!=":
            return have != want
        case "<":
            return have < want  # type: ignore[operator]
        case ">":
            return have > want  # type: ignore[operator]
    raise Misuse(f"unknown operator {compare.op!r}")
