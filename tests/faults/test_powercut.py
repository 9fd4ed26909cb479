"""A slice of the power cuts (make powercut CUTS=n runs as many as you like), and that they would find something."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.faults import powercut
from tests.faults.powercut import Operation, Result


def test_whenever_the_power_goes_nothing_acknowledged_is_lost_and_nothing_invented() -> None:
    result = powercut.cut_everywhere(seed=1, cuts=1000)
    assert result.cuts >= 800 and result.boundaries > 300 and result.wrong == []


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[Operation]:
    return powercut.record(tmp_path_factory.mktemp("recorded"), 7, 40)


def cut(directory: Path, operations: list[Operation], cuts: int = 150) -> Result:
    result = Result()
    known = powercut.Known(7, 40, powercut.everything(operations))
    asyncio.run(powercut._cut(directory, operations, known, 7, cuts, result))
    return result


def test_what_was_recorded_survives_as_it_was(tmp_path: Path, recorded: list[Operation]) -> None:
    assert cut(tmp_path, recorded).wrong == []
    assert {o.kind for o in recorded} >= set("NPWSRU")
    told = powercut.everything(recorded)
    # 40 of the writers, and those of sync: 25 keys, four in a batch; on a slow machine the values before the last are not sent
    assert told.sync == 21 and len(told.acknowledged) >= 40 + 25 // 4


def test_a_disk_that_does_not_sync_is_found_out(tmp_path: Path, recorded: list[Operation]) -> None:
    store = {o.file for o in recorded if o.kind == "N" and o.data.startswith(b"store.db")}
    lying = [o for o in recorded if not (o.kind == "S" and o.file in store)]
    assert any("was acknowledged" in w or "does not open" in w or "no store" in w for w in cut(tmp_path, lying).wrong)


def test_an_acknowledgement_before_the_sync_is_found_out(tmp_path: Path, recorded: list[Operation]) -> None:
    told = next(o.file for o in recorded if o.kind == "N" and o.data == b"told")
    hasty: list[Operation] = []
    for operation in recorded:
        if operation.kind == "W" and operation.file == told and operation.data.startswith(b"has"):
            at = max(n for n, o in enumerate(hasty) if o.kind == "S")  # the sync that it waited for
            hasty.insert(at, operation)
        else:
            hasty.append(operation)
    assert any("was acknowledged" in w for w in cut(tmp_path, hasty).wrong)


def test_a_write_that_is_lost_in_the_middle_is_found_out(tmp_path: Path, recorded: list[Operation]) -> None:
    logs = {o.file for o in recorded if o.kind == "N" and o.data == b"store.db-wal"}
    frames = [n for n, o in enumerate(recorded) if o.kind == "W" and o.file in logs and len(o.data) >= 4096]
    lost = [o for n, o in enumerate(recorded) if n != frames[len(frames) // 2]]
    assert cut(tmp_path, lost).wrong
    assert os.listdir(tmp_path) == []


def test_a_directory_that_is_not_synced_is_found_out(tmp_path: Path, recorded: list[Operation]) -> None:
    directories = {o.file for o in recorded if o.kind == "P"}
    forgotten = [o for o in recorded if not (o.kind == "S" and o.file in directories)]
    assert len(forgotten) < len(recorded)
    assert any("no store" in w for w in cut(tmp_path, forgotten).wrong)


def test_a_last_sync_revision_that_is_ahead_of_the_data_is_found_out(tmp_path: Path) -> None:
    (tmp_path / "record").mkdir()
    hasty = powercut.record(tmp_path / "record", 7, 40, mistake="hasty")
    assert any("last sync revision is" in w for w in cut(tmp_path, hasty, 600).wrong)
