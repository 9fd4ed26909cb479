"""Whether to list or to watch next, from which position, and after how many seconds. Pure.

    list ──> watch from the list's position; each event moves the position
      ^          │ it ended, or failed in a way that may pass: watch again from the position
      └──────────┘ the history from the position on is gone (410), or may be, for the server was away: list again

A position is opaque: a resourceVersion, a revision. Failures in a row wait longer and longer; an event ends the row, a list does not,
since a server may answer lists and refuse each watch.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from kubeedge.kit.backoff import Backoff

P = TypeVar("P")
_BACKOFF = Backoff(1.0, 30.0)
_SOON = Backoff(0.01, 30.0)  # from the second end in a row: the side that compacts or closes must be able to go on


class Reflector(Generic[P]):
    """The state of one list-then-watch loop. A position is what the source gives, a resourceVersion or a revision, and is opaque here."""

    def __init__(self, backoff: Backoff = _BACKOFF) -> None:
        self._backoff = backoff
        self._failures = 0
        self._ends = 0
        self._position: P | None = None

    @property
    def position(self) -> P | None:
        """The position to watch from; None: list first."""
        return self._position

    def listed(self, position: P) -> None:
        """A list is complete: watch from its position. Back-off goes on until the watch delivers something."""
        self._position = position

    def moved(self, position: P) -> None:
        """The watch has delivered everything up to there."""
        self._position = position
        self._failures = self._ends = 0

    def ended(self) -> float:
        """The watch ended without an error, as servers do to all of them, sooner or later. Seconds to wait."""
        self._ends += 1
        return _SOON.delay(self._ends - 1)

    def expired(self) -> float:
        """History is gone: seconds to wait before the next list."""
        self._position = None
        return self.ended()

    def failed(self, retry_after: float | None = None, *, lists: bool = False) -> float:
        """Seconds to wait, at least `retry_after`, for which the server asked. `lists`: what was there may be another's history: list first."""
        self._failures += 1
        if lists:
            self._position = None
        return max(self._backoff.delay(self._failures), retry_after or 0.0)
