"""The record of a card's slots: what is written is read, half of it is nothing, and whatever happens at starts, a good slot is started in the end."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.imageupdate import core
from kubeedge.imageupdate.core import NextStep, SlotImage, SlotLayout, Slots, UpdateOutcome

A, B = 0, 1
LAYOUT = SlotLayout(100, 10, 200, 20, 10_000, 300)
IMAGE = SlotImage(7, bytes(range(32)), "1.2.3")
NEW = SlotImage(9, bytes(32), "2.0")
CARD = Slots(1, A, (LAYOUT, SlotLayout()), (IMAGE, SlotImage()))


def boot_loader(slots: Slots) -> tuple[int, Slots]:
    """The slot that it starts, and what it leaves (its own script: test_boot_script.py)."""
    if slots.armed is None:
        return slots.good, slots
    return slots.armed, dataclasses.replace(slots, armed=None, generation=slots.generation + 1)


numbers = st.integers(0, 0xFFFFFFFF)
layouts = st.builds(SlotLayout, numbers, numbers, numbers, numbers, numbers, numbers)
images = st.builds(SlotImage, st.integers(0, 1 << 60), st.binary(min_size=32, max_size=32), st.just("1.0"))
slot = st.sampled_from([A, B])
records = st.builds(
    Slots, numbers, slot, st.tuples(layouts, layouts), st.tuples(images, images), st.none() | slot, st.none() | slot,
    st.integers(0, 20), st.sampled_from(UpdateOutcome), st.just("the cloud is away"),
)  # fmt: skip


@given(records)
def test_a_record_is_read_as_it_was_written(record: Slots) -> None:
    sector = core.pack(record)
    assert len(sector) == 512 and core.parse(sector) == record


@given(records, records, st.integers(1, 511))
def test_half_a_record_is_none(old: Slots, new: Slots, at: int) -> None:
    before, after = core.pack(old), core.pack(new)
    torn = after[:at] + before[at:]
    assert core.parse(torn) in (None, *(core.parse(whole) for whole in (before, after) if whole == torn))


@pytest.mark.parametrize("sector", [b"", bytes(512), core.pack(CARD)[:-1], b"X" + core.pack(CARD)[1:]])
def test_what_is_no_record_is_none(sector: bytes) -> None:
    assert core.parse(sector) is None and core.current([sector, sector]) is None


def test_the_newer_of_two_copies_counts() -> None:
    newer = core.begin(CARD)
    assert core.current([core.pack(CARD), core.pack(newer)]) == (1, newer)
    assert core.current([core.pack(newer), core.pack(CARD)]) == (0, newer)
    assert core.current([core.pack(CARD), bytes(512)]) == (0, CARD)


def test_long_texts_are_cut_at_a_character() -> None:
    record = dataclasses.replace(CARD, reason="ä" * 200, images=(SlotImage(1, bytes(32), "v" * 40), NEW))
    read = core.parse(core.pack(record))
    assert read is not None and read.reason == "ä" * 64 and read.images[A].version == "v" * 32


def test_an_image_that_works_is_good() -> None:
    running, slots = boot_loader(core.arm(core.begin(CARD), LAYOUT, NEW))
    assert running == B and core.started(slots, B) == (NextStep.PROVE, None)
    slots = core.works(slots, B)
    assert (slots.good, slots.spare, slots.outcome) == (B, A, UpdateOutcome.WORKS)
    assert boot_loader(slots)[0] == B and core.started(slots, B) == (NextStep.WORK, None)


def test_an_image_that_never_comes_up_is_tried_so_often_and_then_the_one_before_it_stays() -> None:
    slots = core.arm(core.begin(CARD), LAYOUT, NEW, tries=3)
    seen = []
    for _ in range(10):
        running, slots = boot_loader(slots)
        seen.append(running)
        if running == A:  # B crashes before it can say anything
            step, changed = core.started(slots, A)
            slots = changed or slots
            assert (step is NextStep.RESTART) == (slots.trial is not None)
    assert seen == [B, A, B, A, B, A, A, A, A, A]
    assert slots.outcome is UpdateOutcome.GIVEN_UP and slots.good == A and slots.reason == "it did not come up"


def test_why_the_last_try_failed_is_remembered() -> None:
    _, slots = boot_loader(core.arm(core.begin(CARD), LAYOUT, NEW, tries=1))
    slots = core.failed(slots, "no cloud")
    step, changed = core.started(slots, A)
    assert step is NextStep.WORK and changed is not None and changed.reason == "no cloud"


def test_nothing_starts_a_slot_that_is_being_written() -> None:
    armed = core.arm(core.begin(CARD), LAYOUT, NEW)
    for before in (CARD, armed, core.works(boot_loader(armed)[1], B)):
        slots = core.begin(before)
        assert slots.armed is None and slots.trial is None and slots.layouts[slots.spare] == SlotLayout()
        assert boot_loader(slots)[0] == before.good


def test_a_boot_loader_that_does_not_know_the_record_ends_no_machine_in_a_loop() -> None:
    slots, restarts = core.arm(core.begin(CARD), LAYOUT, NEW), 0
    while True:
        step, changed = core.started(slots, A)
        slots = changed or slots
        if step is NextStep.WORK:
            break
        restarts += 1
    assert restarts == core.TRIES - 1 and core.started(slots, A) == (NextStep.WORK, None)


@given(records, slot, st.lists(st.booleans(), max_size=40))
def test_whatever_the_record_says_it_comes_to_rest(record: Slots, running: int, comes_up: list[bool]) -> None:
    """Starts that succeed or fail by chance: after as many as there are tries, and one more each, it works or has given up."""
    slots = record
    for number in range(2 * record.tries + 3):
        running, slots = boot_loader(slots)
        up = comes_up[number] if number < len(comes_up) else True
        step, changed = core.started(slots, running)
        slots = changed or slots
        if step is NextStep.PROVE and up:
            slots = core.works(slots, running)
    assert slots.armed is None and slots.trial is None
