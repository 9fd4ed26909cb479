"""A slice of the power cuts of a card (make powercut-image CUTS=n runs as many as you like, of an emulated machine), and that they would find something."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeedge.imageupdate import core
from kubeedge.imageupdate.bundle import Manifest
from tests.faults.card_replay import Cuts, Step, Write, read_log
from tests.faults.powercut_image import cut, parts

Recorded = tuple[Path, list[Step], list[Manifest]]
_RECORD = {sector * core.SECTOR for sector in core.COPIES}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return parts(tmp_path_factory.mktemp("card"))


def run(recorded: Recorded, steps: list[Step], cuts: int = 150) -> Cuts:
    new, _, known = recorded
    return cut(new, steps, known, cuts, 1, lambda done: None)


def test_whenever_the_power_goes_a_slot_starts_and_the_data_are_whole(recorded: Recorded) -> None:
    result = run(recorded, recorded[1], 500)
    assert result.wrong == [] and result.cuts == 500 and result.trials > 0 and result.repaired > 0


def test_an_image_that_is_armed_before_it_is_on_the_card_is_found_out(recorded: Recorded) -> None:
    hasty = [step for step in recorded[1] if step is not None]  # nothing is ever flushed
    assert any("is not what its image was" in text for text in run(recorded, hasty).wrong)


def test_a_record_over_both_copies_is_found_out(recorded: Recorded) -> None:
    both: list[Step] = []
    for step in recorded[1]:
        if isinstance(step, Write) and step.offset in _RECORD:
            both += [Write(offset, step.data[:100].ljust(core.SECTOR, b"?")) for offset in sorted(_RECORD)]
        both.append(step)
    assert any("no copy of the record" in text for text in run(recorded, both).wrong)


def test_data_that_are_said_to_be_whole_before_they_are_is_found_out(recorded: Recorded) -> None:
    steps = recorded[1]
    begun, made, whole = [number for number, step in enumerate(steps) if step is None][:3]
    early = [*steps[: begun + 1], *steps[made + 1 : whole + 1], *steps[begun + 1 : made + 1]]
    assert any("e2fsck" in text for text in run(recorded, early).wrong)


def test_what_is_no_log_is_said(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(bytes(4096))
    with pytest.raises(ValueError, match="no log"):
        list(read_log(tmp_path / "log"))
