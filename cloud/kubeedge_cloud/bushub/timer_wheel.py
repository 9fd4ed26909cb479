"""When to look at which of many thousand links, to the second: constant work for each, whatever their number. Pure.

Deadlines of links are postponed (something was heard) far more often than they are brought forward. So a link stays in its second, and when that comes, its
owner looks whether it is really time and adds it again.
"""

from __future__ import annotations

from kubeedge.api.names import PortId


class TimerWheel:
    """Ports by the second in which their links are looked at. Times are those of the event loop."""

    def __init__(self) -> None:
        self._seconds: dict[int, set[PortId]] = {}
        self._turned = -1  # the last second that was given out

    def add(self, port: PortId, at: float | None, now: float) -> None:
        """Set the deadline of a port; None: it has none."""
        if at is not None:
            self._seconds.setdefault(max(int(at), int(now), self._turned + 1), set()).add(port)

    def due(self, now: float) -> list[PortId]:
        """The ports whose deadline has passed."""
        second = int(now)
        if len(self._seconds) > second - self._turned > 0:
            come = [s for s in range(self._turned + 1, second + 1) if s in self._seconds]
        else:
            come = [s for s in self._seconds if s <= second]
        self._turned = max(second, self._turned)
        return [port for s in sorted(come) for port in self._seconds.pop(s)]

    def __len__(self) -> int:
        return sum(map(len, self._seconds.values()))
