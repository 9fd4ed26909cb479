"""The contract of a metadata store, revision by revision. Implementations: memory, SQLite, etcd (cloud side).

The rules are etcd's (etcd.io, "API guarantees"), so that etcd itself passes the conformance suite:

* A revision is a global integer. A committed transaction that changes anything raises it by exactly one; every change in
  the transaction carries that revision. An empty store is at revision 1. Reads do not move it. A transaction that writes
  nothing (a delete of an absent key included) does not move it.
* A key's version is 1 when it is created and grows by one with each put; a delete ends the generation; the next put
  starts again at version 1 with a new create_revision.
* A transaction may not put one key twice, nor put a key that it also deletes (Misuse). Of two deletes of one key the second
  finds nothing.
* put and txn return only when the data is durable (after the fsync).
* watch(prefix, after=r) delivers each change with revision > r once, in order of revision, all changes of one revision in
  one batch. It raises Gone when r is below the compacted revision.
* compact(r) makes history at revisions < r unreadable; the newest value of a live key always stays. Reading at a
  revision below the compacted one raises Gone; reading at a revision above the current one raises Invalid; a watch from
  one waits.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from kubeedge.api.names import Revision
from kubeedge.kit.dataclasses import dataclass

MAX_KEY = 1024  # bytes of UTF-8
MAX_VALUE = 1536 * 1024  # bytes; etcd's default request limit, which bounds Kubernetes objects too

# What is made for every key of every read and write is a named tuple: a frozen dataclass takes three times as long to make.


class KeyValue(NamedTuple):
    """A key that is there, with its value and the revisions of its creation and last change (etcd's KeyValue)."""

    key: str
    value: bytes
    create_revision: Revision
    mod_revision: Revision
    version: int
    lease: int = 0


class ChangeKind(enum.Enum):
    """What happened to a key."""

    PUT = "put"
    DELETE = "delete"


class Change(NamedTuple):
    """One put or delete at a revision, as watches deliver it. A delete has value b"" and version 0."""

    kind: ChangeKind
    key: str
    value: bytes
    revision: Revision
    create_revision: Revision = Revision(0)
    version: int = 0
    lease: int = 0


class CompareTarget(enum.Enum):
    """What of a key a transaction compares (etcd: Compare.CompareTarget)."""

    VALUE = "value"
    VERSION = "version"
    CREATE = "create_revision"
    MOD = "mod_revision"


@dataclass(frozen=True, slots=True)
class Compare:
    """`operand` is bytes for VALUE, int otherwise. An absent key has version, create and mod revision 0, value None."""

    key: str
    target: CompareTarget
    op: str  # one of = != < >
    operand: bytes | int


def absent(key: str) -> Compare:
    """Holds while there is no such key."""
    return Compare(key, CompareTarget.VERSION, "=", 0)


def unchanged(kv: KeyValue) -> Compare:
    """Holds while the key has the value that was read."""
    return Compare(kv.key, CompareTarget.MOD, "=", kv.mod_revision)


class Put(NamedTuple):
    """Write a key; with a lease, for as long as that lives."""

    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """`end` "" deletes one key; otherwise the range [key, end)."""

    key: str
    end: str = ""


@dataclass(frozen=True, slots=True)
class Get:
    """`end` "" reads one key; otherwise the range [key, end). Sees the writes before it in the same transaction."""

    key: str
    end: str = ""
    limit: int = 0


Op: TypeAlias = Put | Delete | Get


@dataclass(frozen=True, slots=True)
class RangeResult:
    """What a range read: keys in order, at one revision."""

    kvs: Sequence[KeyValue]
    revision: Revision  # the store's revision at the time of the read
    more: bool = False  # limit cut the result
    count: int = 0  # keys in the whole range


@dataclass(frozen=True, slots=True)
class TxnResult:
    """Which branch was taken, and what its operations answered."""

    succeeded: bool
    revision: Revision
    #: one entry an op: RangeResult for Get, number of keys deleted for Delete, None for Put
    responses: Sequence[RangeResult | int | None] = ()


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """Every change of the revisions up to `revision` that the watch had not delivered. Empty changes: progress."""

    changes: Sequence[Change]
    revision: Revision


class Store(Protocol):
    """Every method may raise Unavailable: the store cannot be reached, or its disk is full."""

    @property
    def store_id(self) -> str:
        """Random identity of this history: a store that was rebuilt or restored has another one."""
        ...

    @property
    def revision(self) -> Revision:
        """The newest revision that this process knows."""
        ...

    @property
    def compacted(self) -> Revision:
        """History below it cannot be read."""
        ...

    async def range(
        self, key: str, end: str = "", *, revision: Revision | None = None, limit: int = 0, keys_only: bool = False
    ) -> RangeResult:
        """Live keys in [key, end), or that one key when `end` is "", at a revision (None: now). Raises Gone, Invalid."""
        ...

    async def get(self, key: str) -> KeyValue | None:
        """The present value of a key; None when it does not exist."""
        ...

    async def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        """If all compares hold `success` is done, else `failure`; all of it or nothing. Raises Invalid, Misuse, NotFound (a lease)."""
        ...

    async def put(self, key: str, value: bytes, lease: int = 0) -> Revision:
        """The revision that it was written at. Raises Invalid, NotFound (the lease)."""
        ...

    async def delete(self, key: str, end: str = "") -> int:
        """Delete the keys in [key, end); returns how many there were."""
        ...

    def watch(self, prefix: str, *, after: Revision, progress: bool = False) -> AsyncGenerator[WatchBatch, None]:
        """Close it (aclose, or leave the `async for` inside contextlib.aclosing) to free what it holds.

        A watcher that falls behind is not buffered in memory: it reads from history when it catches up. `progress` asks for
        a batch, empty if need be, once history is caught up with and every few thousand revisions after.
        """
        ...

    async def compact(self, revision: Revision) -> None:
        """Raises Gone when that was done already, Invalid for the future."""
        ...

    async def lease_grant(self, ttl: float) -> int:
        """seconds; returns a lease id > 0. Keys put with it are deleted when it expires or is revoked."""
        ...

    async def lease_keepalive(self, lease: int) -> None:
        """Restarts its TTL. Raises NotFound when it has expired."""
        ...

    async def lease_revoke(self, lease: int) -> None:
        """Delete its keys and end it. Raises NotFound when it has expired."""
        ...

    async def close(self) -> None:
        """End watches and release the file or connection. Idempotent."""
        ...
