"""What a mapper does about one device, and when. Pure: values, failures and times in; what to read, to write and to report out.

Times are seconds of a monotonic clock, but for the stamps of values: milliseconds since 1970. Per property the newest value that was not
reported yet waits, and no other: without a broker a mapper keeps one value of each property, for as long as it takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kubeedge.kit.backoff import Backoff
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.mapper.values import MappedDevice, MappedProperty

REFRESH = 10.0  # seconds after which a value that has not changed is reported again: the device lives
_MAX_WHY = 500  # characters
_BATCH = 96 * 1024  # characters of the values in one message, which holds one at least
_RETRY = Backoff(1.0, 60.0)  # of a property that cannot be read or written


@dataclass(slots=True)
class _Turn:
    """When something of a property is to be done."""

    at: float = 0.0
    failures: int = 0

    def done(self, at: float) -> None:
        self.at, self.failures = at, 0

    def failed(self, now: float, cycle: float) -> None:
        self.failures += 1
        self.at = now + max(cycle, _RETRY.delay(self.failures))


@dataclass(slots=True)
class _Unsent:
    text: str
    time: int
    at: float  # not before: the report cycle


@dataclass(frozen=True, slots=True)
class ReportBatch:
    """One message about a device: property -> (text, milliseconds), property -> desired text that was taken, and its state ("": as it was)
    with what is wrong."""

    values: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    applied: Mapping[str, str] = field(default_factory=dict)
    state: str = ""
    why: str = ""  # beside a state: what is wrong, for people


class DeviceCycle:
    """The readings, writes and reports of one device. `errors`: property -> what is wrong with it; "" is the device itself."""

    def __init__(self, device: MappedDevice, wanted: Mapping[str, str], *, is_polled: bool = True) -> None:
        self.device = device
        self.is_polled = is_polled  # else the device sends its values by itself, and nothing is due
        self.wanted = dict(wanted)
        self.errors: dict[str, str] = {}
        self.is_connected = False
        self._reads: dict[str, _Turn] = {}
        self._writes: dict[str, _Turn] = {}
        self._applied: dict[str, str] = {}  # what this connection has written
        self._taken: dict[str, str] = {}  # to be reported
        self._unsent: dict[str, _Unsent] = {}
        self._last: dict[str, tuple[str, float]] = {}  # property -> (text that the broker has, when)
        self._state = ("", "")  # that the broker has, and why

    # The wishes

    def want(self, wanted: Mapping[str, str], *, all_of_them: bool = False) -> bool:
        """Desired values; those of properties that cannot be written are left out. Returns whether one is new."""
        known = {
            name: text
            for name, text in wanted.items()
            if name in self.device.properties and self.device.properties[name].writable
        }
        changed = {name for name, text in known.items() if self.wanted.get(name) != text}
        for name in changed:
            self._writes.pop(name, None)
        self.wanted = known if all_of_them else self.wanted | known
        return bool(changed)

    def to_write(self, now: float) -> list[tuple[MappedProperty, str]]:
        """Properties whose desired text the device has not, and whose turn it is."""
        return [
            (self.device.properties[name], text)
            for name, text in self.wanted.items()
            if self._applied.get(name) != text and self._writes.get(name, _Turn()).at <= now
        ]

    def wrote(self, name: str, text: str, now: float) -> None:
        """The device has taken a value; it is read back at once."""
        self._writes.pop(name, None)
        self.errors.pop(name, None)
        self._applied[name] = self._taken[name] = text
        self._read_turn(name).done(now)

    def not_written(self, name: str, why: str, now: float) -> None:
        """The device has refused a value, or it is none; it is tried again later and later."""
        self._writes.setdefault(name, _Turn()).failed(now, 0.0)
        self.errors[name] = why

    # The readings

    def connected(self) -> None:
        """A new connection: everything is read, and written again, for the device may have been without power."""
        self.is_connected = True
        self.errors.pop("", None)
        self._reads.clear()
        self._writes.clear()
        self._applied.clear()

    def lost(self, why: str) -> None:
        """There is no connection to the device."""
        self.is_connected = False
        self.errors[""] = why

    def due(self, now: float) -> list[MappedProperty]:
        """Properties that are to be read now."""
        if not self.is_polled:
            return []
        return [prop for prop in self._polled() if self._read_turn(prop.name).at <= now]

    def _polled(self) -> Iterable[MappedProperty]:
        return (prop for prop in self.device.properties.values() if not prop.is_pushed)

    def read(self, name: str, now: float) -> None:
        """A property was read. Readings keep their cycle, and those that were missed are not made up for."""
        turn, cycle = self._read_turn(name), self.device.properties[name].collect_cycle
        turn.done(turn.at + cycle if turn.at + cycle > now else now + cycle)
        if name not in self._writes:  # what could not be written stays wrong
            self.errors.pop(name, None)

    def touched(self, name: str, now: float) -> None:
        """Something may have given the property another value: it is read at once."""
        self._read_turn(name).at = now

    def not_read(self, name: str, why: str, now: float) -> None:
        """A property could not be read; it is tried again later and later, and others are not held up."""
        self._read_turn(name).failed(now, self.device.properties[name].collect_cycle)
        self.errors[name] = why

    def _read_turn(self, name: str) -> _Turn:
        return self._reads.setdefault(name, _Turn())

    def next_at(self) -> float:
        """When the next reading or writing is due; infinity: none is."""
        pending = [name for name, text in self.wanted.items() if self._applied.get(name) != text]
        turns = [self._writes.get(name, _Turn()).at for name in pending]
        if self.is_polled:
            turns += [self._read_turn(prop.name).at for prop in self._polled()]
        return min(turns, default=float("inf"))

    # The reports

    @property
    def state(self) -> str:
        """As KubeEdge has it: "online", "offline", "unhealthy" (some property does not do as it should); "": not known yet."""
        if not self.is_connected:
            return "offline" if self.errors else ""
        return "unhealthy" if self.errors else "online"

    @property
    def why(self) -> str:
        """What is wrong with the device itself, else with the first of its properties; "": nothing is."""
        name = "" if "" in self.errors else next(iter(self.errors), "")
        lines = errors_of(self.device, {name: self.errors[name]} if self.errors else {})
        return next(iter(lines), "").removeprefix(f"device {self.device.id}: ")[:_MAX_WHY]

    def report(self, values: Mapping[str, str], now: float, time: int) -> None:
        """Property -> text that the device has. `time`: milliseconds since 1970."""
        for name, text in values.items():
            last, at = self._last.get(name, ("", -REFRESH))
            if (waiting := self._unsent.get(name)) is not None:
                waiting.text, waiting.time = text, time
            elif text != last or now - at >= REFRESH:
                self._unsent[name] = _Unsent(text, time, at + self.device.properties[name].report_cycle)

    def take(self, now: float) -> ReportBatch | None:
        """What is to be reported now; None: nothing is. It is to be handed to `sent` or `not_sent`."""
        values: dict[str, tuple[str, int]] = {}
        size = 0
        for name, waiting in self._unsent.items():
            if waiting.at <= now:
                size += len(waiting.text)
                if values and size > _BATCH:
                    break
                values[name] = (waiting.text, waiting.time)
        for name in values:
            del self._unsent[name]
        taken = self._some_taken()
        state, why = self.state, self.why
        if (state, why) == self._state:
            state = why = ""
        return ReportBatch(values, taken, state, why) if values or taken or state else None

    def _some_taken(self) -> dict[str, str]:
        found: dict[str, str] = {}
        size = 0
        for name, text in self._taken.items():
            size += len(text)
            if found and size > _BATCH:
                break
            found[name] = text
        for name in found:
            del self._taken[name]
        return found

    def report_at(self) -> float:
        """When something is to be reported that waits for its report cycle; infinity: nothing does."""
        return min((waiting.at for waiting in self._unsent.values()), default=float("inf"))

    def sent(self, batch: ReportBatch, now: float) -> None:
        """The broker has it on its disk."""
        for name, (text, _) in batch.values.items():
            self._last[name] = (text, now)
        if batch.state:
            self._state = (batch.state, batch.why)

    def not_sent(self, batch: ReportBatch) -> None:
        """It has to be reported again, as far as nothing newer is there."""
        for name, (text, time) in batch.values.items():
            if name in self.device.properties:
                self._unsent.setdefault(name, _Unsent(text, time, 0.0))
        for name, text in batch.applied.items():
            self._taken.setdefault(name, text)

    def forget_reports(self) -> None:
        """The broker is a new one, or was away: it hears of the state again."""
        self._state = ("", "")


def errors_of(device: MappedDevice, errors: Mapping[str, str]) -> Iterable[str]:
    """What is wrong, a line for each property, with the names of device and property."""
    for name, why in errors.items():
        start = f"device {device.id}: " + (f"property {name}: " if name else "")
        yield why if why.startswith(start) else start + why
