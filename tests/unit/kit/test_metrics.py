"""Metrics and their text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.errors import Misuse
from kubeedge.kit.metrics import (
    MAX_SERIES,
    Counter,
    Family,
    Gauge,
    Histogram,
    MetricsRegistry,
    exposition,
    family,
    renamed,
)


def test_the_text_is_the_exposition_format() -> None:
    registry = MetricsRegistry()
    requests = Counter("kubeedge_requests_total", "answers\nby code", ("code",))
    waiting = Gauge("kubeedge_waiting", "now")
    seconds = Histogram("kubeedge_seconds", "took", buckets=(0.1, 1.0))
    registry.add(requests, waiting, seconds)
    registry.collect(lambda: [family("kubeedge_links", "gauge", "up", [({"slot": "0"}, 1), ({"slot": "1"}, 0.5)])])
    requests.inc(code="200")
    requests.inc(2, code='4"\\\n')
    waiting.inc()
    waiting.inc(-3)
    for value in (0.05, 0.1, 0.5, 7.0):
        seconds.observe(value)
    assert registry.text() == (
        "# HELP kubeedge_requests_total answers\\nby code\n# TYPE kubeedge_requests_total counter\n"
        'kubeedge_requests_total{code="200"} 1\nkubeedge_requests_total{code="4\\"\\\\\\n"} 2\n'
        "# HELP kubeedge_waiting now\n# TYPE kubeedge_waiting gauge\nkubeedge_waiting -2\n"
        "# HELP kubeedge_seconds took\n# TYPE kubeedge_seconds histogram\n"
        'kubeedge_seconds_bucket{le="0.1"} 2\nkubeedge_seconds_bucket{le="1"} 3\n'
        'kubeedge_seconds_bucket{le="+Inf"} 4\nkubeedge_seconds_sum 7.65\nkubeedge_seconds_count 4\n'
        '# HELP kubeedge_links up\n# TYPE kubeedge_links gauge\nkubeedge_links{slot="0"} 1\n'
        'kubeedge_links{slot="1"} 0.5\n'
        "# HELP kubeedge_metrics_collectors_failed collectors that raised an error\n"
        "# TYPE kubeedge_metrics_collectors_failed gauge\nkubeedge_metrics_collectors_failed 0\n"
    )


def test_a_label_with_too_many_values_is_bounded() -> None:
    counter = Counter("kubeedge_x_total", "x", ("who",))
    for n in range(MAX_SERIES + 50):
        counter.inc(who=str(n))
    assert len(counter.family().samples) == MAX_SERIES + 1 and counter.value(who="other") == 50


def test_a_collector_that_fails_hides_no_other() -> None:
    registry = MetricsRegistry()

    def broken() -> list[Family]:
        raise RuntimeError("not now")

    registry.collect(broken)
    registry.collect(lambda: [family("kubeedge_up", "gauge", "it runs", 1)])
    assert "kubeedge_up 1\n" in registry.text()
    assert "kubeedge_metrics_collectors_failed 1\n" in registry.text()


def test_a_renamed_metric_has_its_old_name_beside_the_new_one() -> None:
    links = family("kubeedge_new", "gauge", "links", [({"slot": "0"}, 1), ({"slot": "1"}, 0.5)])
    assert exposition(renamed(links, old="kubeedge_old")) == (
        '# HELP kubeedge_new links\n# TYPE kubeedge_new gauge\nkubeedge_new{slot="0"} 1\nkubeedge_new{slot="1"} 0.5\n'
        "# HELP kubeedge_old deprecated: use kubeedge_new\n# TYPE kubeedge_old gauge\n"
        'kubeedge_old{slot="0"} 1\nkubeedge_old{slot="1"} 0.5\n'
    )
    took = Histogram("kubeedge_new_seconds", "took", buckets=(1.0,))
    took.observe(0.5)
    names = [s.name for s in renamed(took.family(), old="kubeedge_old_seconds")[1].samples]
    assert names == [f"kubeedge_old_seconds_{part}" for part in ("bucket", "bucket", "sum", "count")]


def test_mistakes_of_the_caller_are_said() -> None:
    with pytest.raises(Misuse, match="not names"):
        Counter("kubeedge requests", "x")
    with pytest.raises(Misuse, match="does not go back"):
        Counter("kubeedge_x_total", "x").inc(-1)
    with pytest.raises(Misuse, match="has the labels"):
        Counter("kubeedge_x_total", "x", ("a",)).inc(b="1")
    registry = MetricsRegistry()
    registry.add(Gauge("kubeedge_x", "x"))
    with pytest.raises(Misuse, match="two metrics"):
        registry.add(Gauge("kubeedge_x", "x"))


@given(st.text(), st.floats())
def test_any_label_and_value_stay_on_one_line(text: str, value: float) -> None:
    lines = exposition([family("x", "gauge", text, [({"a": text}, value)])]).split("\n")
    assert len(lines) == 4 and lines[2].startswith('x{a="')
