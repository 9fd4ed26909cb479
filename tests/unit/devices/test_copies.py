"""Copies of a message that come by several subscriptions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kubeedge.devices.eventbus.copies import MessageCopies


def test_one_of_several_copies_is_taken_however_the_broker_sends_them() -> None:
    copies = MessageCopies()
    assert [copies.has("t", b"1", [n]) for n in (3, 1, 2)] == [False, True, True]
    assert [copies.has("t", b"1", [n]) for n in (1, 2, 3)] == [False, True, True], "it was said again"
    assert not copies.has("t", b"2", [1]) and not copies.has("u", b"1", [1]), "these are others"
    assert [copies.has("m", b"1", n) for n in ([1, 2], [3], [1, 2], [3])] == [False, True, False, True]
    assert not copies.has("t", b"1", []) and not copies.has("t", b"1", []), "the broker does not say"


def test_what_the_broker_repeats_is_a_copy_if_it_was_one() -> None:
    copies = MessageCopies()
    assert [copies.has("t", b"1", [n]) for n in (2, 1)] == [False, True]
    assert [copies.has("t", b"1", [n], again=True) for n in (2, 1)] == [False, True]
    assert not copies.has("t", b"3", [1], again=True), "it did not arrive the first time"
    assert copies.has("t", b"3", [2])


def test_a_subscription_that_ends_takes_nothing_with_it() -> None:
    copies = MessageCopies()
    for _ in range(5):
        copies.has("t", b"1", [1])
    copies.clear()
    assert not copies.has("t", b"1", [2])


@given(st.lists(st.tuples(st.sampled_from("ab"), st.permutations([1, 2, 3])), max_size=30))
def test_as_many_are_taken_as_were_said(said: list[tuple[str, list[int]]]) -> None:
    copies = MessageCopies()
    for payload, order in said:
        assert [copies.has("t", payload.encode(), [n]) for n in order].count(False) == 1


def test_it_remembers_no_more_than_a_few() -> None:
    copies = MessageCopies()
    for n in range(10_000):
        assert not copies.has("t", n.to_bytes(4, "big"), [1])
    assert len(copies._known) == 256
