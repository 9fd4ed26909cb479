"""Each check passes a good run, and finds what is wrong with a doctored one."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.chaos import checks
from tests.chaos.journal import History, Journal, Pods, Readings

MAP = "core/configmaps/default/c"
KEY = checks.REGISTRY + MAP
ABOVE = "/t/default/edge/n/desired/"
ROW = "configmaps/default/c"


def value(n: int, **more: Any) -> bytes:
    return json.dumps({"data": {"n": str(n), "n-flip": str(n % 2), **more}}).encode()


def registry(*numbers: int) -> History:
    """The object had these numbers, at revisions 10, 11, ..."""
    found = History()
    for revision, n in enumerate(numbers, 10):
        found.add(revision, [(KEY, value(n))])
    return found


def journal(*acknowledged: int, attempted: int = 0, node: str = "") -> Journal:
    answers = {n: 10 + n for n in acknowledged}
    return Journal("w", node, MAP, ("data", "n"), attempted or max(acknowledged, default=0), answers)


def queue(**numbers: int) -> History:
    """A store of an edge with writes of n: r21=1 means at revision 21."""
    found = History()
    for revision, n in numbers.items():
        write = {"changes": [{"path": ["data", "n"], "now": str(n)}]}
        at = int(revision[1:])
        found.add(at, [(f"/reported/writes/_/{at:016d}", json.dumps(write).encode())])
    return found


def test_what_was_counted_once_and_in_order_is_right() -> None:
    assert checks.counted(registry(0, 1, 2, 3), journal(1, 2, 3)) == []
    assert checks.counted(registry(0, 1, 2, 3), journal(1, 3)) == [], "an attempt without an answer may be there"
    assert checks.counted(registry(0, 1, 2), journal(1, 2, attempted=3)) == [], "or not"
    assert checks.counted(registry(0, 0, 1), Journal("w", "", MAP, ("data", "n"), 1, {1: 12})) == []
    edge = Journal("w", "n", MAP, ("data", "n"), 2, {1: 21, 2: 22})
    assert checks.counted(registry(0, 1, 2), edge, queue(r21=1, r22=2)) == []


@pytest.mark.parametrize(
    ("numbers", "acknowledged", "complaint"),
    [
        ((0, 1, 2), (1, 2, 3), "3 was acknowledged"),
        ((0, 1, 3), (1, 3), "missing"),
        ((0, 1, 2, 1), (1, 2), "went back"),
        ((0, 1, 2, 1, 2), (1, 2), "went back"),
        ((0, 1, 2, 3), (1, 2), "last that was tried"),
        ((0,), (1,), "never was"),
    ],
)
def test_a_write_that_is_missing_doubled_or_gone_back_is_found(
    numbers: tuple[int, ...], acknowledged: tuple[int, ...], complaint: str
) -> None:
    assert complaint in " ".join(checks.counted(registry(*numbers), journal(*acknowledged)))


def test_an_answer_with_another_revision_than_the_write_is_found() -> None:
    lying = journal(1, 2)
    lying.acknowledged[2] = 99
    assert "acknowledged at revision 99" in checks.counted(registry(0, 1, 2), lying)[0]


def test_half_a_write_is_found_and_so_is_one_that_was_applied_twice_to_a_value_that_came_again() -> None:
    doctored = registry(0, 1, 2)
    doctored.add(20, [(KEY, json.dumps({"data": {"n": "2", "n-flip": "1"}}).encode())])
    assert "half a write" in checks.counted(doctored, journal(1, 2))[0]


def test_an_object_that_vanished_is_found() -> None:
    doctored = registry(0, 1, 2)
    doctored.add(20, [(KEY, None)])
    assert "went back" in checks.counted(doctored, journal(1, 2))[0]


def test_a_write_at_the_edge_that_was_acknowledged_before_it_was_kept_is_found() -> None:
    edge = Journal("w", "n", MAP, ("data", "n"), 2, {1: 21, 2: 22})
    assert "wrote it at None" in checks.counted(registry(0, 1, 2), edge, queue(r21=1))[0]
    assert "wrote it at [23]" in checks.counted(registry(0, 1, 2), edge, queue(r21=1, r23=2))[0]


def test_what_the_writer_itself_saw_is_told() -> None:
    seen = journal(1)
    seen.wrong.append("it read 0 after 1 was acknowledged")
    assert checks.counted(registry(0, 1), seen) == ["writer w: it read 0 after 1 was acknowledged"]


def test_a_tally_whose_parts_do_not_make_the_total_is_found() -> None:
    def state(**data: str) -> History:
        found = History()
        found.add(5, [(KEY, json.dumps({"data": data}).encode())])
        return found

    assert checks.tally(state(), MAP) == []
    assert checks.tally(state(t0="2", t1="1", total="3", **{"t0-flip": "0"}), MAP) == []
    assert "total is 4" in checks.tally(state(t0="2", t1="1", total="4"), MAP)[0]


def reader(*seen: tuple[int, int], watching: bool = True) -> Readings:
    return Readings("r", [("c", version, {"n": n}) for version, n in seen], watching, start=10)


def test_a_reader_that_goes_forward_is_right() -> None:
    assert checks.observed(reader((10, 0), (11, 1), (12, 2)), [journal(1, 2)]) == []
    assert checks.observed(reader((10, 0), (10, 0), (12, 2), watching=False)) == []


@pytest.mark.parametrize(
    ("seen", "complaint"),
    [
        (((11, 1), (12, 2), (11, 1)), "resourceVersion 11 after 12"),
        (((11, 1), (12, 2), (13, 1)), "n is 1 after 2"),
        (((11, 1), (12, 2), (12, 2)), "resourceVersion 12 after 12"),
        (((11, 1),), "was not told of n 2 at 12"),
    ],
)
def test_a_reader_who_sees_the_past_or_misses_something_is_found(
    seen: tuple[tuple[int, int], ...], complaint: str
) -> None:
    assert complaint in " ".join(checks.observed(reader(*seen), [journal(1, 2)]))


def test_a_watcher_that_had_to_list_again_missed_only_what_came_before() -> None:
    again = reader((10, 0), (12, 2))
    again.gaps.append(12)
    assert checks.observed(again, [journal(1, 2)]) == []
    assert "n 3 at 13" in checks.observed(again, [journal(1, 2, 3)])[0]


def source(*numbers: int) -> History:
    found = History()
    for revision, n in enumerate(numbers, 10):
        found.add(revision, [(ABOVE + ROW, value(n))])
    return found


def sink(*steps: tuple[int | None, int | None]) -> History:
    """Steps of (number or None for no change, last sync revision or None for no change)."""
    found = History()
    for revision, (n, lsr) in enumerate(steps, 3):
        changes: list[tuple[str, bytes | None]] = [] if n is None else [(f"/desired/{ROW}", value(n))]
        if lsr is not None:
            changes.append(("/sync/down", json.dumps(["id", lsr]).encode()))
        found.add(revision, changes)
    return found


def follows(a: History, b: History) -> list[str]:
    return checks.followed(a, ABOVE, b, "/desired/", "/sync/down")


def test_a_sink_that_follows_is_right_also_when_data_comes_before_its_revision() -> None:
    assert follows(source(0, 1, 2), sink((0, 10), (1, 11), (2, 12))) == []
    assert follows(source(0, 1, 2), sink((0, 10), (2, 12))) == [], "what was superseded may be left out"
    assert follows(source(0, 1, 2), sink((0, 10), (1, None), (None, 11))) == []
    assert follows(source(0), sink((0, None), (None, 10))) == []


def test_what_a_source_had_before_it_was_recorded_is_nobody_s_fault_and_what_comes_then_is() -> None:
    assert follows(source(5, 6), sink((0, 7), (3, 9), (5, 10), (6, 11))) == []
    assert "older than the last sync revision 10" in follows(source(5, 6), sink((0, 7), (3, 9), (None, 10)))[0]


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        (((0, 10), (None, 11)), "older than the last sync revision 11"),
        (((0, 10), (2, 12), (1, None)), "older than the last sync revision 12"),
        (((0, 10), (2, 12), (None, 11)), "went back from 12 to 11"),
        (((None, 10),), "older than the last sync revision 10"),
        (((0, 10), (7, 12)), "older than the last sync revision 12"),
    ],
)
def test_a_last_sync_revision_ahead_of_its_data_is_found(steps: Any, complaint: str) -> None:
    assert complaint in " ".join(follows(source(0, 1, 2), sink(*steps)))


def test_a_deletion_that_did_not_come_is_found() -> None:
    above = source(0)
    above.add(11, [(ABOVE + ROW, None)])
    assert "older than the last sync revision 11" in follows(above, sink((0, 10), (None, 11)))[0]
    gone = sink((0, 10))
    gone.add(9, [(f"/desired/{ROW}", None), ("/sync/down", b'["id", 11]')])
    assert follows(above, gone) == []


def test_ends_that_differ_in_one_byte_are_found() -> None:
    assert checks.same("x", {"a": b"1"}, {"a": b"1"}) == []
    assert "a differs" in checks.same("x", {"a": b"1"}, {"a": b"2"})[0]
    assert "b differs" in checks.same("x", {"a": b"1"}, {"a": b"1", "b": b""})[0]


def world_of_pods() -> tuple[History, Pods]:
    cloud = History()
    for revision, name in enumerate(("p-0", "p-1", "p-2"), 2):
        for prefix in (f"{checks.REGISTRY}core/pods/default/", ABOVE + "pods/default/"):
            cloud.add(2 * revision + (prefix == ABOVE + "pods/default/"), [(prefix + name, b"{}")])
    for prefix in (f"{checks.REGISTRY}core/pods/default/", ABOVE + "pods/default/"):
        cloud.add(cloud.revision + 1, [(f"{prefix}p-1", None)])
    # p-2 was created without an answer, p-3 was never answered and never was
    return cloud, Pods("p", {"p-0", "p-1", "p-2", "p-3"}, {"p-0", "p-1"}, {"p-1"}, {"p-1"})


def test_pods_that_are_missing_undead_invented_or_born_twice_are_found() -> None:
    cloud, good = world_of_pods()
    assert checks.pods(cloud, "n", good) == []
    bad = copy.deepcopy(good)
    bad.created.add("p-3")
    assert "p-3 was created and is not in the API" in " ".join(checks.pods(cloud, "n", bad))
    bad = copy.deepcopy(good)
    bad.deleting.add("p-0")
    bad.deleted.add("p-0")
    assert "p-0 was deleted and is in node n" in " ".join(checks.pods(cloud, "n", bad))
    bad = copy.deepcopy(good)
    bad.attempted.remove("p-2")
    assert "p-2 in the API was never created" in " ".join(checks.pods(cloud, "n", bad))
    cloud.add(50, [(f"{checks.REGISTRY}core/pods/default/p-1", b"{}")])
    cloud.add(51, [(f"{checks.REGISTRY}core/pods/default/p-1", None)])
    assert "p-1 was created 2 times" in " ".join(checks.pods(cloud, "n", good))


def test_a_node_that_is_attached_and_not_ready_is_found() -> None:
    def node(status: str, *taints: Any) -> dict[str, Any]:
        return {"spec": {"taints": list(taints)}, "status": {"conditions": [{"type": "Ready", "status": status}]}}

    assert checks.ready("n", node("True")) == []
    assert checks.ready("n", {}) == ["node n: Ready is None"]
    assert checks.ready("n", node("Unknown")) == ["node n: Ready is Unknown"]
    assert "taints" in checks.ready("n", node("True", {"key": "node.kubernetes.io/unreachable"}))[0]


def test_a_conflict_between_writers_that_share_no_field_is_found() -> None:
    cloud = registry(0, 1)
    assert checks.unharmed(cloud) == []
    event = {"reason": "EdgeWriteConflict", "message": "write x"}
    cloud.add(30, [(f"{checks.EVENTS}default/e", json.dumps(event).encode())])
    assert checks.unharmed(cloud) == ["writes of the edge: EdgeWriteConflict: write x"]


def test_a_store_whose_revision_goes_back_is_found() -> None:
    history = registry(0, 1)
    history.add(10, [(KEY, value(2))])
    assert history.wrong == ["revision 10 after 11"]
