"""What is wrong with an object, up to as much as a user would read: a check ends with the 32nd mistake, however many there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kubeedge.api.status import MAX_CAUSES, FieldError


class Enough(Exception):
    """Raised inside of a check when its list is full. `found` is the list."""

    def __init__(self, found: list[FieldError]) -> None:
        super().__init__(f"{len(found)} mistakes")
        self.found = found


class Findings(list[FieldError]):
    """A list that raises Enough when it is full; `collect` catches it."""

    def append(self, found: FieldError) -> None:
        """Raises Enough with the mistake that fills the list."""
        super().append(found)
        self._stop_when_full()

    def extend(self, found: Iterable[FieldError]) -> None:
        """Takes all of them, then raises Enough if the list is full."""
        super().extend(found)
        self._stop_when_full()

    def __iadd__(self, found: Iterable[FieldError], /) -> Findings:  # type: ignore[misc,override]
        self.extend(found)
        return self

    def _stop_when_full(self) -> None:
        if len(self) >= MAX_CAUSES:
            raise Enough(list(self))


def collect(*checks: Callable[[], Iterable[FieldError]]) -> list[FieldError]:
    """What the checks found, in their order, up to the limit."""
    errors = Findings()
    try:
        for check in checks:
            errors += check()
    except Enough as enough:
        return enough.found[:MAX_CAUSES]
    return list(errors)
