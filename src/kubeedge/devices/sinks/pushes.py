"""Values that wait for the queue on the disk: between a report and the commit that keeps it. Pure."""

from __future__ import annotations

import json
from typing import Any

from kubeedge.api.names import NamespacedName
from kubeedge.devices.shares import SharedRoom
from kubeedge.devices.sinks import core
from kubeedge.devices.sinks.core import PushedValue

_MAX_SIZE = 1024 * 1024  # characters of values
_SHARE = 32 * 1024  # characters of a device for which there is room when others take all of it
_VALUE = 64  # characters that a value costs besides its own
_MAX_KNOWN = 1024  # pushMethods that are shared


class Pushes:
    """Bounded: what comes when there is no room is counted in `lost`."""

    def __init__(self) -> None:
        self.devices: set[NamespacedName] = set()  # whose values wait here
        self.lost = 0  # since the caller looked
        self._values: list[tuple[str, PushedValue]] = []
        self._room = SharedRoom[NamespacedName](_MAX_SIZE, _SHARE)
        self._known: dict[str, tuple[str, ...]] = {}

    def destinations(self, push: Any) -> tuple[str, ...]:
        """The destinations of a pushMethod: the same object for the same text. Raises Invalid."""
        text = json.dumps(push, sort_keys=True)
        if text not in self._known:
            found = tuple(one.spec for one in core.destinations(push))
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[text] = found
        return self._known[text]

    def add(self, key: NamespacedName, value: PushedValue, destinations: tuple[str, ...]) -> None:
        """A value that was accepted, for each of the destinations."""
        if not self._room.admits(key, (len(value.value) + _VALUE) * len(destinations)):
            self.lost += 1
            return
        self._values += [(spec, value) for spec in destinations]
        self.devices.add(key)

    def take(self) -> list[tuple[str, PushedValue]]:
        """(destination, value) of all that wait; the caller has them now."""
        self._room.clear()
        found, self._values = self._values, []
        self.devices = set()
        return found
