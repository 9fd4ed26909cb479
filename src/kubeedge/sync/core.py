"""The paper's Figure 6, written once and used in both directions: a source that has the truth, a sink that follows it.

    sink                                                    source
      │  read its last sync revision (LSR)                    │
      │── FETCH(history, LSR) ───────────────────────────────>│  changes after the LSR, or, when that history is
      │<─ START(history, revision, delta | snapshot) ─────────│  compacted or not ours, a snapshot
      │<─ BATCH(revision, items) ─────────────────────────────│
      │  commit items and LSR = revision in one transaction   │
      │── ACK(revision) ─────────────────────────────────────>│  (several batches may be on the way, see Window)
      │<─ BATCH ... for ever ─────────────────────────────────│

*History.* Revisions mean something only within one history, so the LSR carries the identity of the store that it came from. A source
that was rebuilt or restored from a backup has another identity, and its sink gets a snapshot instead of silently diverging.

*Delta.* A batch holds the newest value of each key that changed; what was superseded on the way is not sent. A batch that had to be
split carries the previous LSR in all parts but the last, so a cut between two parts repeats them; items are idempotent.

A large value that changed a little travels as a patch of the value that the sink has at its LSR, verified by a digest of the result.

*Agreement.* Revisions of one history can still mean two things: a store file that was restored from a backup goes on counting under
its old identity. So a FETCH carries a digest of what the sink has, and the source continues from the LSR only if its own past was the
same; otherwise a snapshot heals whatever differs. (Ends that do not speak "sync2" have no digest, patches or ranges.)

*Ranges.* A snapshot for a sink that may have most of it already: the source names ranges of its keys with a digest each, the sink
answers which of them are different here, and only these are sent. Neither end keeps more than a window of ranges.

*Snapshot.* START fixes the revision; batches carry the live keys; END says that all were named. The sink keeps the names that it has
seen, and with END deletes the others and takes the LSR, in one transaction. The first batch takes the old LSR away: what is there
from now on is no state of the old history, which must not be continued if its source should come back. After a cut before END the
snapshot is begun again.

*Priority.* Of what changed together, what says how nodes are goes first (URGENT).

*Progress.* An empty batch says that nothing of interest happened up to a revision. The sink remembers it, and writes it down only when
the durable LSR is far behind (PROGRESS_EVERY): no write to flash without a change.

Lives elsewhere: reading and writing stores (driver.py), bytes (codec.py).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias, TypeVar

from kubeedge.api.names import Revision
from kubeedge.errors import PeerError
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.store.model import Change, ChangeKind
from kubeedge.sync.codec import (
    MAX_ITEMS,
    TARGET_BODY,
    Ack,
    Batch,
    End,
    Fetch,
    Fill,
    Item,
    KeysRefused,
    Message,
    Patch,
    Range,
    Ranges,
    Start,
    Want,
    size,
)

_Answer = TypeVar("_Answer", Revision | None, Want)

PROGRESS_EVERY = 5_000  # revisions that the durable LSR may be behind; must stay below the history that a store keeps
WINDOW_BATCHES = 8  # on the way and not acknowledged
WINDOW_BYTES = 1024 * 1024  # likewise; one batch more may go beyond it
MAX_SNAPSHOT_KEYS = 200_000  # names that a sink keeps while a snapshot runs
MAX_WANTED = 20_000  # ranges that a sink waits for: more than a window of them
URGENT = ("nodes/", "leases/")


@dataclass(frozen=True, slots=True)
class Lsr:
    """Last sync revision: what is durable at the sink, of which history. ("", 0) when there is nothing."""

    store_id: str = ""
    revision: Revision = Revision(0)


# -- the sink ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Span:
    """Keys after `after`, up to and with `end`; "" stands for no bound."""

    after: str
    end: str


@dataclass(frozen=True, slots=True)
class Compared:
    """Find out which of these are different here, and send wanted() of their indexes."""

    spans: Sequence[tuple[Span, bytes]]


@dataclass(frozen=True, slots=True)
class Apply:
    """Commit in one transaction: the items, the deletions of keys not in `keep` (None: no such deletion), and the LSR.

    lsr None: leave the LSR record as it is (a part of a split batch, or of a snapshot).
    """

    items: Sequence[Item | Patch]
    lsr: Lsr | None
    keep: frozenset[str] | None
    ack: Revision
    within: Span | None = None  # only there; None: everywhere


@dataclass(frozen=True, slots=True)
class Remember:
    """There is nothing to write; acknowledge the revision."""

    ack: Revision


SinkAction: TypeAlias = Apply | Compared | Remember | None


class _SinkState(enum.Enum):
    IDLE = "idle"  # no FETCH sent
    WAITING = "waiting"  # for START
    DELTA = "delta"
    SNAPSHOT = "snapshot"
    RANGES = "ranges"


@dataclass(slots=True)
class Sink:
    """Driver: send fetch(); for each message perform receive()'s action, durable, then send acked()."""

    lsr: Lsr
    _state: _SinkState = _SinkState.IDLE
    _durable: Revision = Revision(0)
    _snapshot: Lsr = field(default_factory=Lsr)
    _seen: set[str] = field(default_factory=set)
    _compared: list[Span] = field(default_factory=list)  # of the last message of ranges
    _wanted: list[Span] = field(default_factory=list)
    _named: str = ""  # the last key of the last range

    def fetch(self, digest: bytes = b"") -> Fetch:
        """`digest` of what is below the prefix, for a source that knows "sync2"."""
        self._state = _SinkState.WAITING
        self._durable = self.lsr.revision
        return Fetch(self.lsr.store_id, self.lsr.revision, digest)

    def wanted(self, indexes: Sequence[int]) -> Want:
        """The answer to Ranges: which of them differ here."""
        self._wanted += [self._compared[n] for n in indexes]
        return Want(indexes)

    def receive(self, message: Message) -> SinkAction:
        """Raises PeerError for what a source may not say now."""
        match message:
            case Start(store_id, revision, snapshot, ranges) if self._state is _SinkState.WAITING and store_id:
                if ranges:
                    self._state = _SinkState.RANGES
                    self._snapshot, self._wanted, self._named = Lsr(store_id, revision), [], ""
                elif snapshot:
                    self._state = _SinkState.SNAPSHOT
                    self._snapshot, self._seen = Lsr(store_id, revision), set()
                elif store_id != self.lsr.store_id:
                    raise PeerError("a delta of a history that was not asked for")
                else:
                    self._state = _SinkState.DELTA
                return None
            case Batch() if self._state is _SinkState.SNAPSHOT:
                self._seen.update(item.key for item in message.items)
                if len(self._seen) > MAX_SNAPSHOT_KEYS:
                    raise PeerError(f"a snapshot of more than {MAX_SNAPSHOT_KEYS} keys", close_code=1009)
                return Apply(message.items, self._void(), None, message.revision)
            case Ranges(ranges) if self._state is _SinkState.RANGES:
                return self._on_ranges(ranges)
            case Fill(items) if self._state is _SinkState.RANGES and self._wanted:
                span = self._wanted.pop(0)
                if not all(span.after < item.key <= span.end for item in items):
                    raise PeerError(f"a range up to {span.end[:80]!r} is filled with keys outside of it")
                keep = frozenset(item.key for item in items)
                return Apply(items, self._void(), keep, self._snapshot.revision, span)
            case End() if self._state is _SinkState.RANGES and not self._wanted:
                self._state, self.lsr = _SinkState.DELTA, self._snapshot
                self._durable = self.lsr.revision
                return Apply((), self.lsr, frozenset(), self.lsr.revision, Span(self._named, ""))
            case End() if self._state is _SinkState.SNAPSHOT:
                self._state, self.lsr = _SinkState.DELTA, self._snapshot
                self._durable = self.lsr.revision
                seen, self._seen = frozenset(self._seen), set()
                return Apply((), self.lsr, seen, self.lsr.revision)
            case Batch() if self._state is _SinkState.DELTA:
                return self._on_delta(message)
        raise PeerError(f"sync message {type(message).__name__} while {self._state.value}")

    def _void(self) -> Lsr | None:
        """What is there from now on is no state of the old history."""
        nothing = None if self.lsr == Lsr() else Lsr()
        self.lsr = Lsr()
        return nothing

    def _on_ranges(self, ranges: Sequence[Range]) -> Compared:
        self._compared = []
        for entry in ranges:
            if entry.end <= self._named:
                raise PeerError(f"range {entry.end[:80]!r} after {self._named[:80]!r}")
            self._compared.append(Span(self._named, entry.end))
            self._named = entry.end
        if len(self._wanted) + len(ranges) > MAX_WANTED:
            raise PeerError(f"more than {MAX_WANTED} ranges at once", close_code=1009)
        return Compared([(span, entry.digest) for span, entry in zip(self._compared, ranges, strict=True)])

    def _on_delta(self, batch: Batch) -> SinkAction:
        if batch.revision < self.lsr.revision:
            raise PeerError(f"revision goes back from {self.lsr.revision} to {batch.revision}")
        advanced = batch.revision > self.lsr.revision
        self.lsr = Lsr(self.lsr.store_id, batch.revision)
        if batch.items or batch.revision - self._durable >= PROGRESS_EVERY:
            if advanced:
                self._durable = batch.revision
            return Apply(batch.items, self.lsr if advanced else None, None, batch.revision)
        return Remember(batch.revision)

    def acked(self, action: Apply | Remember) -> Ack:
        """The acknowledgement of what the driver has made durable."""
        return Ack(action.ack)


# -- the source --------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Source:
    """Decides delta or snapshot, cuts batches, counts what is on the way."""

    store_id: str
    _on_the_way: list[tuple[Revision | None, int, bool]] = field(default_factory=list)  # None: ranges
    _bytes_on_the_way: int = 0

    def continues(self, fetch: Fetch, current: Revision, compacted: Revision) -> bool:
        """Revisions after `current` cannot have come from this history: a peer that asks for them has another history."""
        return fetch.store_id == self.store_id and compacted <= fetch.after <= current

    def answer(self, fetch: Fetch, current: Revision, compacted: Revision, *, agreed: bool = True) -> Start:
        """`agreed`: what the sink has is what we had at that revision."""
        known = agreed and self.continues(fetch, current, compacted)
        return Start(self.store_id, fetch.after if known else current, not known, not known and bool(fetch.digest))

    def delta(self, changes: Sequence[Change], prefix: str, before: Revision, revision: Revision) -> Iterator[Batch]:
        """The changes up to `revision` as batches; all but the last leave the sink at `before`."""
        newest: dict[str, Change] = {}
        for change in changes:
            newest.pop(change.key, None)  # the order is that of the newest change of each key
            newest[change.key] = change
        items = (
            Item(c.key.removeprefix(prefix), None if c.kind is ChangeKind.DELETE else c.value) for c in newest.values()
        )
        parts = list(split(sorted(items, key=_is_bulk)))
        for part in parts[:-1]:
            yield Batch(before, part)
        yield Batch(revision, parts[-1] if parts else ())

    def sent(self, revision: Revision | None, length: int, *, complete: bool = True) -> None:
        """A BATCH, FILL or END of so many bytes, to be acknowledged with that revision; None: RANGES, to be answered with WANT.

        `complete`: with it the sink is at that revision; not so with a part of a snapshot.
        """
        self._on_the_way.append((revision, length, complete))
        self._bytes_on_the_way += length

    def may_send(self) -> bool:
        """Is there room in the window?"""
        return len(self._on_the_way) < WINDOW_BATCHES and self._bytes_on_the_way < WINDOW_BYTES

    def receive(self, message: Message) -> Revision | Want | KeysRefused | None:
        """An acknowledgement: the sink is durable up to the returned revision, or has one part more of a snapshot (None); or what it
        wants, or does not take. Raises PeerError for all else."""
        if isinstance(message, KeysRefused):
            return message
        if self._on_the_way:
            revision, length, complete = self._on_the_way[0]
            match message:
                case Ack(acked) if acked == revision:
                    return self._arrived(length, acked if complete else None)
                case Want() as want if revision is None:
                    return self._arrived(length, want)
        raise PeerError(f"{message if isinstance(message, Ack) else type(message).__name__} was not expected")

    def _arrived(self, length: int, answer: _Answer) -> _Answer:
        self._on_the_way.pop(0)
        self._bytes_on_the_way -= length
        return answer


def _is_bulk(item: Item) -> bool:
    return not item.key.startswith(URGENT)


def split(items: Iterable[Item]) -> Iterator[Sequence[Item]]:
    """Runs of items of about TARGET_BODY bytes, few enough for one transaction."""
    part: list[Item] = []
    total = 0
    for item in items:
        if part and (total + size(item) > TARGET_BODY or len(part) == MAX_ITEMS):
            yield part
            part, total = [], 0
        part.append(item)
        total += size(item)
    if part:
        yield part
