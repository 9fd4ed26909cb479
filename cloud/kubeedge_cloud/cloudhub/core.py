"""A node's session key in the store, what its changes mean for the channel that wrote it, and the pace of its reports. Pure.

The key says which process holds the node's channel. The last process to write it has the node: a second channel of the same node, here or in another
process, replaces the first. When it is deleted, the node was removed, another machine joined under its name, or the process lost its lease.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from kubeedge.api.names import Revision
from kubeedge.hub.core import CLOSE_REPLACED, REPLACED
from kubeedge.kit.bucket import Bucket


@dataclass(frozen=True, slots=True)
class NodePace:
    """How often what a node reports may change: as its own bucket says, and not while `pressure` gives seconds to wait."""

    bucket: Bucket
    pressure: Callable[[], float]

    def charge(self, tokens: float, now: float) -> float:
        """Seconds until the next message may be taken."""
        return max(self.bucket.charge(tokens, now), self.pressure())


@dataclass(frozen=True, slots=True)
class Close:
    """The channel is to be closed."""

    reason: str
    code: int  # of the WebSocket (RFC 6455, section 7.4)


@dataclass(frozen=True, slots=True)
class KeyChange:
    """What the store says of a session key: the revision at which it was written, or up to which it is known to be missing."""

    is_there: bool
    revision: Revision


@dataclass(slots=True)
class SessionKey:
    """The key of one session, from before it is written."""

    session_id: str
    address: str  # from where the channel comes
    since: float  # seconds since 1970
    revision: Revision = Revision(0)  # at which we wrote it; 0 until it is written
    _early: KeyChange | None = None  # was seen before we knew the revision of our own write

    def encode(self) -> bytes:
        """The value of the session key, as JSON."""
        record = {"session": self.session_id, "address": self.address, "since": self.since}
        return json.dumps(record, separators=(",", ":"), sort_keys=True).encode()

    def written(self, revision: Revision) -> Close | None:
        """Our write was committed at that revision."""
        self.revision = revision
        return self.changed(self._early) if self._early is not None else None

    def changed(self, change: KeyChange) -> Close | None:
        """The store says that the key changed, or how it is now; that may be our own write, or an older one."""
        if not self.revision:
            self._early = change
        elif change.revision > self.revision:
            if change.is_there:
                return Close(REPLACED, CLOSE_REPLACED)
            return Close("the session was ended: the node was removed, or its lease is over", 1008)
        return None
