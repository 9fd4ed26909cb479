"""The two roles of sync, as conversations."""

from __future__ import annotations

import pytest

from kubeedge.api.names import Revision
from kubeedge.errors import PeerError
from kubeedge.store.model import Change, ChangeKind
from kubeedge.sync.codec import TARGET_BODY, Ack, Batch, End, Fetch, Fill, Item, Message, Range, Ranges, Start, Want
from kubeedge.sync.core import (
    MAX_ITEMS,
    MAX_WANTED,
    PROGRESS_EVERY,
    WINDOW_BATCHES,
    WINDOW_BYTES,
    Apply,
    Compared,
    Lsr,
    Remember,
    Sink,
    Source,
    Span,
    split,
)


def r(n: int) -> Revision:
    return Revision(n)


def put(key: str, value: bytes, revision: int) -> Change:
    return Change(ChangeKind.PUT, "/desired/" + key, value, r(revision), r(revision), 1)


def delete(key: str, revision: int) -> Change:
    return Change(ChangeKind.DELETE, "/desired/" + key, b"", r(revision))


# -- source ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fetch", "snapshot"),
    [
        (Fetch("me", r(50)), False),
        (Fetch("me", r(100)), False),
        (Fetch("me", r(20)), False),  # compacted up to here: what came after is all there
        (Fetch("me", r(19)), True),
        (Fetch("me", r(101)), True),  # from a future that this history does not have
        (Fetch("other", r(50)), True),
        (Fetch("", r(0)), True),
    ],
)
def test_a_source_answers_with_a_delta_only_when_it_has_all_of_it(fetch: Fetch, snapshot: bool) -> None:
    start = Source("me").answer(fetch, r(100), r(20))
    assert start == Start("me", r(100) if snapshot else fetch.after, snapshot)


def test_only_the_newest_value_of_a_key_is_sent_in_the_order_of_the_newest() -> None:
    changes = [put("a", b"1", 11), put("b", b"1", 12), put("a", b"2", 13), put("c", b"1", 14), delete("c", 15)]
    (batch,) = Source("me").delta(changes, "/desired/", r(10), r(15))
    assert batch == Batch(r(15), [Item("b", b"1"), Item("a", b"2"), Item("c", None)])


def test_no_changes_are_an_empty_batch_that_tells_the_revision() -> None:
    assert list(Source("me").delta((), "/desired/", r(10), r(15))) == [Batch(r(15), ())]


def test_all_parts_of_a_split_batch_but_the_last_carry_the_old_revision() -> None:
    changes = [put(f"k{n}", bytes(TARGET_BODY // 2), 11) for n in range(4)]
    batches = list(Source("me").delta(changes, "/desired/", r(10), r(11)))
    assert [b.revision for b in batches] == [10, 10, 10, 11]
    assert [i.key for b in batches for i in b.items] == ["k0", "k1", "k2", "k3"]


def test_a_value_larger_than_a_body_travels_alone() -> None:
    items = [Item("a", b"1"), Item("big", bytes(3 * TARGET_BODY)), Item("b", b"2")]
    assert [[i.key for i in part] for part in split(items)] == [["a"], ["big"], ["b"]]
    assert [len(part) for part in split(Item(f"{n}", None) for n in range(MAX_ITEMS + 1))] == [MAX_ITEMS, 1]


def test_the_window_is_bounded_in_batches_and_in_bytes() -> None:
    source = Source("me")
    for n in range(WINDOW_BATCHES):
        assert source.may_send()
        source.sent(r(n), 10)
    assert not source.may_send()
    assert source.receive(Ack(r(0))) == 0
    assert source.may_send()
    source.sent(r(9), WINDOW_BYTES)
    for n in range(1, WINDOW_BATCHES):
        source.receive(Ack(r(n)))
        assert not source.may_send()
    source.receive(Ack(r(9)))
    assert source.may_send()


@pytest.mark.parametrize("message", [Ack(r(2)), Ack(r(0)), End(), Fetch("", r(0)), Batch(r(1), ())])
def test_a_source_takes_nothing_but_the_next_acknowledgement(message: Message) -> None:
    source = Source("me")
    source.sent(r(1), 1)
    source.sent(r(2), 1)
    with pytest.raises(PeerError):
        source.receive(message)


def test_an_acknowledgement_of_nothing_is_refused() -> None:
    with pytest.raises(PeerError):
        Source("me").receive(Ack(r(0)))


# -- sink --------------------------------------------------------------------------------------------------------------------


def test_a_sink_asks_from_where_it_is_and_applies_what_comes() -> None:
    sink = Sink(Lsr("them", r(10)))
    assert sink.fetch() == Fetch("them", r(10))
    assert sink.receive(Start("them", r(10), snapshot=False)) is None
    action = sink.receive(Batch(r(15), [Item("a", b"1")]))
    assert action == Apply([Item("a", b"1")], Lsr("them", r(15)), None, r(15))
    assert isinstance(action, Apply) and sink.acked(action) == Ack(r(15))


def test_a_part_of_a_split_batch_does_not_move_the_lsr() -> None:
    sink = Sink(Lsr("them", r(10)))
    sink.fetch()
    sink.receive(Start("them", r(10), snapshot=False))
    assert sink.receive(Batch(r(10), [Item("a", b"1")])) == Apply([Item("a", b"1")], None, None, r(10))
    assert sink.receive(Batch(r(11), [Item("b", b"1")])) == Apply([Item("b", b"1")], Lsr("them", r(11)), None, r(11))


def test_progress_is_written_down_only_when_the_durable_lsr_is_far_behind() -> None:
    sink = Sink(Lsr("them", r(10)))
    sink.fetch()
    sink.receive(Start("them", r(10), snapshot=False))
    assert sink.receive(Batch(r(20), ())) == Remember(r(20))
    far = r(10 + PROGRESS_EVERY)
    assert sink.receive(Batch(far, ())) == Apply((), Lsr("them", far), None, far)
    assert sink.receive(Batch(r(far + 1), ())) == Remember(r(far + 1))


def test_a_snapshot_voids_the_old_lsr_first_and_sets_the_new_one_last() -> None:
    sink = Sink(Lsr("old", r(99)))
    sink.fetch()
    sink.receive(Start("new", r(7), snapshot=True))
    assert sink.receive(Batch(r(7), [Item("a", b"1")])) == Apply([Item("a", b"1")], Lsr(), None, r(7))
    assert sink.receive(Batch(r(7), [Item("b", b"1")])) == Apply([Item("b", b"1")], None, None, r(7))
    assert sink.receive(End()) == Apply((), Lsr("new", r(7)), frozenset({"a", "b"}), r(7))
    assert sink.receive(Batch(r(8), [Item("a", None)])) == Apply([Item("a", None)], Lsr("new", r(8)), None, r(8))


def test_a_first_snapshot_has_no_lsr_to_void() -> None:
    sink = Sink(Lsr())
    assert sink.fetch() == Fetch("", r(0))
    sink.receive(Start("new", r(7), snapshot=True))
    assert sink.receive(Batch(r(7), [Item("a", b"1")])) == Apply([Item("a", b"1")], None, None, r(7))


def test_an_empty_snapshot_empties_the_sink() -> None:
    sink = Sink(Lsr("old", r(5)))
    sink.fetch()
    sink.receive(Start("new", r(1), snapshot=True))
    assert sink.receive(End()) == Apply((), Lsr("new", r(1)), frozenset(), r(1))


@pytest.mark.parametrize(
    "conversation",
    [
        [Batch(r(11), ())],  # before START
        [End()],
        [Start("other", r(10), False)],  # a delta of another history
        [Start("", r(10), True)],
        [Start("them", r(10), False), Start("them", r(10), False)],
        [Start("them", r(10), False), End()],
        [Start("them", r(10), False), Batch(r(9), ())],  # back in time
        [Start("them", r(10), False), Ack(r(10))],
        [Start("them", r(10), False), Fetch("them", r(10))],
        [Start("them", r(10), True), End(), End()],
        [Ranges([])],  # before START
        [Start("them", r(10), True), Ranges([Range("a", bytes(8))])],  # of a snapshot that has none
        [Start("them", r(10), True, True), Batch(r(10), ())],
        [Start("them", r(10), True, True), Fill([])],  # not wanted
        [Start("them", r(10), True, True), Ranges([Range("b", bytes(8)), Range("a", bytes(8))])],  # order
        [Start("them", r(10), True, True), Ranges([Range("b", bytes(8))]), Ranges([Range("b", bytes(8))])],
        [Start("them", r(10), True, True), Ranges([Range("", bytes(8))])],
    ],
)
def test_a_sink_refuses_what_a_source_may_not_say(conversation: list[Message]) -> None:
    sink = Sink(Lsr("them", r(10)))
    sink.fetch()
    with pytest.raises(PeerError):
        for message in conversation:
            sink.receive(message)


# -- ranges ------------------------------------------------------------------------------------------------------------------


def comparing(*ends: str) -> Sink:
    sink = Sink(Lsr("old", r(3)))
    sink.fetch(bytes(16))
    sink.receive(Start("new", r(7), True, True))
    assert isinstance(sink.receive(Ranges([Range(end, bytes(8)) for end in ends])), Compared)
    return sink


def test_what_is_wanted_is_filled_in_order_and_the_lsr_comes_last() -> None:
    sink = comparing("b", "d", "f")
    assert sink.wanted([0, 2]) == Want([0, 2])
    first = sink.receive(Fill([Item("a", b"1")]))
    assert first == Apply([Item("a", b"1")], Lsr(), frozenset("a"), r(7), Span("", "b"))
    assert sink.receive(Fill([])) == Apply([], None, frozenset(), r(7), Span("d", "f"))
    assert sink.receive(End()) == Apply((), Lsr("new", r(7)), frozenset(), r(7), Span("f", ""))


def test_nothing_that_differs_leaves_the_old_lsr_until_the_end() -> None:
    sink = comparing("b")
    sink.wanted([])
    assert sink.receive(End()) == Apply((), Lsr("new", r(7)), frozenset(), r(7), Span("b", ""))


@pytest.mark.parametrize("key", ["b", "d0", "", "zz"])
def test_a_range_is_not_filled_with_keys_outside_of_it(key: str) -> None:
    sink = comparing("b", "d")
    sink.wanted([1])
    with pytest.raises(PeerError, match="outside"):
        sink.receive(Fill([Item("c", b""), Item(key, b"")]))


def test_the_end_does_not_come_before_what_is_wanted() -> None:
    sink = comparing("b")
    sink.wanted([0])
    with pytest.raises(PeerError):
        sink.receive(End())


def test_a_sink_does_not_wait_for_more_ranges_than_a_window_has() -> None:
    sink = comparing("a")
    with pytest.raises(PeerError, match="at once"):
        sink.receive(Ranges([Range(f"b{n:06}", bytes(8)) for n in range(MAX_WANTED + 1)]))


def test_a_source_takes_a_wish_only_for_ranges_and_an_acknowledgement_only_for_the_rest() -> None:
    source = Source("me")
    source.sent(None, 10)
    source.sent(r(5), 10)
    with pytest.raises(PeerError):
        source.receive(Ack(r(5)))
    assert source.receive(Want([0])) == Want([0])
    with pytest.raises(PeerError):
        source.receive(Want([0]))
    assert source.receive(Ack(r(5))) == 5


def test_a_sink_that_has_something_else_gets_a_snapshot_of_the_same_history() -> None:
    fetch = Fetch("me", r(50), bytes(16))
    assert Source("me").answer(fetch, r(100), r(20), agreed=True) == Start("me", r(50), False)
    assert Source("me").answer(fetch, r(100), r(20), agreed=False) == Start("me", r(100), True, True)
    assert Source("me").answer(Fetch("", r(0), bytes(16)), r(100), r(20)) == Start("me", r(100), True, True)


def test_a_part_of_a_snapshot_is_not_progress() -> None:
    source = Source("me")
    source.sent(r(5), 10, complete=False)
    source.sent(r(5), 10)
    assert [source.receive(Ack(r(5))), source.receive(Ack(r(5)))] == [None, 5]
