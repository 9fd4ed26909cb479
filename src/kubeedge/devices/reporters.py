"""Who reports for a device: whether two mappers do. Pure."""

from __future__ import annotations

from kubeedge.kit.dataclasses import dataclass

TURNS = 60_000  # milliseconds in which one that was replaced is back


@dataclass(slots=True)
class Reporters:
    """Who reports for a device. Two that do so by turns are two mappers for one device; one that comes after another took its place."""

    newest: str = ""
    former: str = ""
    since: int = 0  # milliseconds since 1970, of the newest one's first report after the former one's
    both: tuple[str, ...] = ()
    at: int = 0  # when the turn changed last between those

    def heard(self, source: str, now: int) -> bool:
        """A report; `source` "": nobody knows whose. True: `both` is another than before."""
        before = self.both
        if source and source != self.newest:
            if source == self.former and 0 <= now - self.since < TURNS:
                self.both, self.at = tuple(sorted((source, self.newest))), now
            self.newest, self.former, self.since = source, self.newest, now
        return self.both != before

    def settled(self, now: int) -> bool:
        """True: two have taken turns, and do so no more."""
        if not self.both or 0 <= now - self.at < 2 * TURNS:
            return False
        self.both = ()
        return True
