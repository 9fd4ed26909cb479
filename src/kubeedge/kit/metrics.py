"""Metrics as values, and their text for Prometheus (exposition format 0.0.4).

requests = Counter("kubeedge_http_requests_total", "requests that were answered", ("code",))
requests.inc(code="200")
registry = MetricsRegistry()
registry.add(requests)
registry.collect(lambda: [family("kubeedge_link_rtt_seconds", "gauge", "round trip", [({"slot": "0"}, 0.031)])])
registry.text()

What is counted elsewhere already (in the data plane, in a store) is read by a collector at each scrape, and costs nothing in between.
A label's values must be few: slots, reasons and states, never addresses or paths of users. A metric that gets another name keeps its old
one for one version (`renamed`).

Sources: prometheus.io, "Exposition formats" and "Metric and label naming".
"""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

from kubeedge.errors import Misuse
from kubeedge.kit.dataclasses import dataclass, replace

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_SERIES = 1000  # of one metric: more than that is a label that should not be one
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # buckets for durations

Kind: TypeAlias = Literal["counter", "gauge", "histogram", "untyped"]
ModulePhase: TypeAlias = Literal["starting", "ready", "backing off", "stopped"]  # as a supervisor sees a module
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of the exposition: a series and its value."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with all of its series."""

    name: str
    kind: Kind
    help: str
    samples: Sequence[Sample]


class SupervisedModule(Protocol):
    """What `modules` reads of a supervised module."""

    @property
    def name(self) -> str:
        """The value of the label `module`."""
        ...

    @property
    def state(self) -> ModulePhase:
        """The module's phase now; only "ready" counts as up."""
        ...

    @property
    def restarts(self) -> int:
        """The number of times that it was started again after a failure."""
        ...


class Metric(Protocol):
    """What a registry can collect."""

    def family(self) -> Family:
        """All series with their values of now."""
        ...


Collector: TypeAlias = Callable[[], Iterable[Family]]


def family(name: str, kind: Kind, help: str, values: Iterable[tuple[Mapping[str, str], float]] | float) -> Family:
    """Of values that are known already: one number, or pairs of labels and number."""
    pairs = [({}, float(values))] if isinstance(values, int | float) else values
    return Family(name, kind, help, [Sample(name, labels, value) for labels, value in pairs])


def renamed(current: Family, *, old: str) -> list[Family]:
    """The metric, and for one more version the same series under its `old` name, whose HELP says what to use."""
    samples = [replace(s, name=old + s.name.removeprefix(current.name)) for s in current.samples]
    return [current, replace(current, name=old, help=f"deprecated: use {current.name}", samples=samples)]


class _Labelled:
    kind: Kind = "untyped"

    def __init__(self, name: str, help: str, labels: Sequence[str] = ()) -> None:
        if not _NAME.fullmatch(name) or not all(_LABEL.fullmatch(label) for label in labels):
            raise Misuse(f"{name} {tuple(labels)}: not names of a metric and its labels")
        self.name, self.help, self.labels = name, help, tuple(labels)

    def _key(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        if len(labels) != len(self.labels) or any(name not in labels for name in self.labels):
            raise Misuse(f"{self.name} has the labels {self.labels}, not {tuple(labels)}")
        return tuple(labels[name] for name in self.labels)

    def _room(self, series: Mapping[tuple[str, ...], object], key: tuple[str, ...]) -> tuple[str, ...]:
        """Beyond the bound everything new is counted together."""
        return key if key in series or len(series) < MAX_SERIES else ("other",) * len(self.labels)

    def _named(self, key: tuple[str, ...]) -> dict[str, str]:
        return dict(zip(self.labels, key, strict=True))


class Counter(_Labelled):
    """Only grows. Its name ends in _total."""

    kind: Kind = "counter"

    def __init__(self, name: str, help: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, help, labels)
        self._values: dict[tuple[str, ...], float] = {} if labels else {(): 0.0}

    def inc(self, amount: float = 1.0, **labels: str) -> None:
        """Raises Misuse for a negative amount or labels that it does not have."""
        if amount < 0:
            raise Misuse(f"{self.name}: a counter does not go back by {-amount:g}")
        key = self._room(self._values, self._key(labels))
        self._values[key] = self._values.get(key, 0.0) + amount

    def value(self, **labels: str) -> float:
        """The value of one series; 0.0 before the first `inc`."""
        return self._values.get(self._key(labels), 0.0)

    def family(self) -> Family:
        return Family(
            self.name, self.kind, self.help, [Sample(self.name, self._named(k), v) for k, v in self._values.items()]
        )


class Gauge(Counter):
    """A value that goes up and down."""

    kind: Kind = "gauge"

    def set(self, value: float, **labels: str) -> None:
        """The value of one series from now on."""
        self._values[self._room(self._values, self._key(labels))] = value

    def inc(self, amount: float = 1.0, **labels: str) -> None:
        self.set(self.value(**labels) + amount, **labels)


class Histogram(_Labelled):
    """How often values were at most each of the bounds, their number and their sum."""

    kind: Kind = "histogram"

    def __init__(self, name: str, help: str, labels: Sequence[str] = (), *, buckets: Sequence[float] = SECONDS) -> None:
        super().__init__(name, help, labels)
        if "le" in labels or not buckets or list(buckets) != sorted(set(buckets)):
            raise Misuse(f"{name}: buckets must rise, and the label le is taken")
        self._bounds = tuple(buckets)
        self._series: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}
        if not labels:
            self._series[()] = self._new()

    def observe(self, value: float, **labels: str) -> None:
        """Count one value, in the unit of the buckets."""
        key = self._room(self._series, self._key(labels))
        counts, total = self._series.setdefault(key, self._new())
        counts[bisect.bisect_left(self._bounds, value)] += 1
        total[0] += value

    def _new(self) -> tuple[list[int], list[float]]:
        return [0] * (len(self._bounds) + 1), [0.0]

    def family(self) -> Family:
        samples = []
        for key, (counts, total) in self._series.items():
            labels, so_far = self._named(key), 0
            for bound, count in zip((*self._bounds, math.inf), counts, strict=True):
                so_far += count
                samples.append(Sample(f"{self.name}_bucket", {**labels, "le": _number(bound)}, so_far))
            samples += [
                Sample(f"{self.name}_sum", labels, total[0]),
                Sample(f"{self.name}_count", labels, so_far),
            ]
        return Family(self.name, self.kind, self.help, samples)


class MetricsRegistry:
    """The metrics of one process. Nothing is global: two processes in one test do not meet."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}
        self._collectors: list[Collector] = []

    def add(self, *metrics: Counter | Gauge | Histogram) -> None:
        """Raises Misuse when there is a metric of that name."""
        for metric in metrics:
            if metric.name in self._metrics:
                raise Misuse(f"there are two metrics {metric.name}")
            self._metrics[metric.name] = metric

    def collect(self, collector: Collector) -> None:
        """Called whenever the metrics are asked for; a failure of one does not hide the others."""
        self._collectors.append(collector)

    def text(self) -> str:
        """The exposition of everything that was added and collected (CONTENT_TYPE)."""
        families = [metric.family() for metric in self._metrics.values()]
        failed = 0
        for collector in self._collectors:
            try:
                families += collector()
            except Exception:
                failed += 1
        families.append(
            family("kubeedge_metrics_collectors_failed", "gauge", "collectors that raised an error", failed)
        )
        return exposition(families)


def modules(states: Iterable[SupervisedModule]) -> list[Family]:
    """The metrics of the modules of a process, as their supervisor knows them."""
    rows = list(states)
    running = [({"module": s.name}, 1.0 if s.state == "ready" else 0.0) for s in rows]
    restarts = [({"module": s.name}, float(s.restarts)) for s in rows]
    return [
        family("kubeedge_module_up", "gauge", "1 when the module runs", running),
        family("kubeedge_module_restarts_total", "counter", "starts after a failure", restarts),
    ]


def exposition(families: Iterable[Family]) -> str:
    """Families of one name are put together, in the order of their first."""
    merged: dict[str, tuple[Family, list[Sample]]] = {}
    for one in families:
        merged.setdefault(one.name, (one, []))[1].extend(one.samples)
    lines = []
    for name, (first, samples) in merged.items():
        lines.append(f"# HELP {name} {_escape(first.help)}")
        lines.append(f"# TYPE {name} {first.kind}")
        lines += [f"{s.name}{_labels(s.labels)} {_number(s.value)}" for s in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value, quote=True)}"' for name, value in labels.items()) + "}"


def _escape(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
