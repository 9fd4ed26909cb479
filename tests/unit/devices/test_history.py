"""The history of properties: what is kept, for how long, what a power cut may take, and how it is asked for."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api import keys
from kubeedge.cli.main import main
from kubeedge.devices.core import Twins
from kubeedge.devices.eventbus.module import EventBus
from kubeedge.devices.history import core
from kubeedge.devices.history.driver import HistoryFiles
from kubeedge.devices.module import DeviceTwins
from kubeedge.store.sqlite import open_sqlite
from kubeedge_cloud.devicecontroller.core import row
from tests.unit.devices.modules import running

NOON = 1_790_000_000_000
HALL, ATTIC = ("default", "hall"), ("default", "attic")
UID = "u"
NEWEST = "999." + "5" * 90
MIB = 1024 * 1024
WITHIN = 90.0
VALUES = st.lists(st.tuples(st.integers(0, 1 << 50), st.text(max_size=9)), min_size=1, max_size=4)


def desired(uid: str = UID) -> bytes:
    properties = {"temperature": {"type": "FLOAT", "history": True}, "other": {"type": "INT"}}
    return json.dumps({"metadata": {"uid": uid}, "generation": 1, "properties": properties}).encode()


@given(st.lists(st.dictionaries(st.sampled_from([UID, "other", "n/\ud800"]), st.dictionaries(st.text(max_size=5), VALUES), max_size=3), max_size=4), st.data())  # fmt: skip
def test_blocks_come_back_and_torn_ones_end_the_file(commits: list[dict], data: st.DataObject) -> None:  # type: ignore[type-arg]
    blocks = [core.block(one) for one in commits]
    whole = b"".join(blocks)
    for prop in {name for one in commits for name in one.get(UID, {})}:
        if prop.isprintable():
            expected = [value for one in commits for value in one.get(UID, {}).get(prop, [])]
            assert list(core.values(whole, UID, prop)) == expected
    cut = data.draw(st.integers(0, len(whole)))
    assert core.valid_length(whole[:cut]) in [sum(map(len, blocks[:n])) for n in range(len(blocks) + 1)]
    assert core.valid_length(whole) == len(whole)
    torn = bytearray(whole)
    if torn:
        torn[data.draw(st.integers(0, len(torn) - 1))] ^= 0x40
        list(core.values(bytes(torn), UID, "temperature"))
        assert core.valid_length(bytes(torn)) < len(torn)


def test_files_are_bounded_by_bytes_and_by_age_and_a_torn_end_is_mended(tmp_path: Path) -> None:
    files = HistoryFiles(tmp_path / "h", 64 * 1024, 86400.0)
    for second in range(1000):
        files.append({UID: {"temperature": [(NOON + second * 1000, f"{second}." + "5" * 90)]}}, NOON + second * 1000)
    kept = sorted((tmp_path / "h").iterdir())
    assert sum(path.stat().st_size for path in kept) <= 64 * 1024 and len(kept) > 8
    found = files.read(HALL, UID, "temperature", 0, 1_000_000)
    assert found[-1] == (NOON + 999_000, NEWEST) and len(found) > 200, "the newest are kept"
    assert [time for time, _ in found] == sorted(time for time, _ in found)
    assert files.read(HALL, UID, "temperature", NOON + 998_000, 10) == found[-2:]
    assert files.read(HALL, UID, "temperature", 0, 3) == found[-3:]
    assert files.read(HALL, UID, "other", 0, 3) == files.read(ATTIC, "other", "temperature", 0, 3) == []
    files.close()
    for path in kept:  # by the clock of this test
        os.utime(path, (NOON / 1000, NOON / 1000))
    with kept[-1].open("ab") as file:
        file.write(b"torn")
    files = HistoryFiles(tmp_path / "h", 64 * 1024, 86400.0)
    late = NOON + 999_000
    files.append({UID: {"temperature": [(late, NEWEST), (late + 1, "1")]}}, late)  # the first one once more
    assert files.read(HALL, UID, "temperature", 0, 3) == [*found[-2:], (late + 1, "1")]
    for day in range(3):  # full files of another day
        later = late + (2 + day) * 86_400_000
        files.append({UID: {"temperature": [(later, "x" * 3000)]}}, later)
        files.append({UID: {"temperature": [(later, "y" * 3000)]}}, later)
    times = [time for time, _ in files.read(HALL, UID, "temperature", 0, 1_000_000)]
    assert min(times) > late, "what is older than a day has gone"
    files.close()


def test_large_values_are_not_all_read_into_memory(tmp_path: Path) -> None:
    files = HistoryFiles(tmp_path, 64 * MIB, 86400.0)
    for number in range(40):
        files.append({UID: {"note": [(NOON + number, f"{number:02}" + "x" * 60_000)]}}, NOON + number)
    found = files.read(HALL, UID, "note", 0, 1000)
    assert [text[:2] for _, text in found] == ["36", "37", "38", "39"], "the newest, of a quarter of a megabyte"
    assert [text[:2] for _, text in files.read(HALL, UID, "note", 0, 1)] == ["39"]
    assert files.read(HALL, UID, "note", 0, 0) == []
    files.close()


def test_a_value_costs_the_card_few_bytes(tmp_path: Path) -> None:
    """100 devices of 10 properties, each by a commit of its own every second (must 80)."""
    files = HistoryFiles(tmp_path, 64 * MIB, 86400.0)
    for second in range(20):
        for number in range(10):
            values = {f"property{n}": [(NOON + second * 1000, f"{20 + n}.{second}")] for n in range(10)}
            files.append({f"00000000-0000-4000-8000-{number:012}": values}, NOON)
    files.close()
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert size / 2000 < 50, f"{size / 2000} bytes a value"


def test_only_what_is_asked_for_waits_for_the_disk_and_in_a_bounded_room() -> None:
    twins = Twins()
    twins.desire(HALL, desired())
    twins.report(HALL, {"temperature": "20", "other": "1"}, NOON)
    twins.report(HALL, {"temperature": "20"}, NOON + 1)  # the same again is a value, too
    twins.report(HALL, {"temperature": "hot"}, NOON + 2)
    assert twins.take_history() == {UID: {"temperature": [(NOON, "20"), (NOON + 1, "20")]}}
    assert twins.take_history() == {}
    for _ in range(40_000):
        twins.report(HALL, {"temperature": "1." + "0" * 50}, NOON)
    assert twins.history_lost and len(core.block(twins.take_history())) < core.MAX_BLOCK


def test_a_device_made_anew_has_nothing_of_its_predecessor_and_old_files_belong_to_those_of_then(
    tmp_path: Path,
) -> None:
    files = HistoryFiles(tmp_path, MIB, 1e12)
    files.append(
        {"default/hall": {"temperature": [(NOON, "1")]}, "default/attic": {"temperature": [(NOON, "2")]}}, NOON
    )
    files.close()  # by a former version

    async def run() -> None:
        store = await open_sqlite(tmp_path / "edge.db")
        twins = DeviceTwins(store, wall=lambda: NOON / 1000, history=HistoryFiles(tmp_path, MIB, 1e12))

        async def exists(uid: str) -> None:
            await store.put(keys.desired("devices", *HALL), desired(uid))
            while HALL not in twins.twins.devices or twins.twins.devices[HALL].uid != uid:
                await asyncio.sleep(0.01)

        async def report(value: str) -> None:
            _, done = twins.report(HALL, {"temperature": value}, durable=True)
            assert done is not None
            await asyncio.wait_for(done, WITHIN)

        async def values() -> list[str]:
            return [value for _, value in await twins.history(HALL, "temperature", 0, 100)]

        await store.put(keys.desired("devices", *HALL), desired("first"))
        async with running(twins):
            await report("3")
            assert await values() == ["1", "3"]
            await exists("second")
            assert await values() == []
            await report("4")
        async with running(twins):
            await exists("second")
            assert await values() == ["4"]
            await exists("first")
            assert await values() == ["1", "3"]
        await store.close()

    asyncio.run(run())


def test_the_annotation_says_which_properties() -> None:
    def kept(text: object) -> list[str]:
        device = {"metadata": {"name": "d", "annotations": {"kubeedge.io/history": text}}, "spec": {}}
        model = {"spec": {"properties": [{"name": "a"}, {"name": "b"}]}}
        return [name for name, prop in json.loads(row(device, model))["properties"].items() if prop.get("history")]

    assert kept("a, c") == ["a"] and kept("*") == ["a", "b"] and kept("") == kept(7) == []


def test_what_is_acknowledged_is_there_and_the_command_shows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        store = await open_sqlite(tmp_path / "edge.db")
        files = HistoryFiles(tmp_path / "h", MIB, 1e9)
        twins = DeviceTwins(store, wall=lambda: NOON / 1000, history=files)
        bus = EventBus(twins, "edge1", "127.0.0.1", 0)
        try:
            async with running(twins, bus):
                await store.put(keys.desired("devices", *HALL), desired())
                while HALL not in twins.twins.devices:
                    await asyncio.sleep(0.01)
                for n in range(5):
                    _, done = twins.report(
                        HALL, {"temperature": f"2{n}"}, durable=True, times={"temperature": NOON + n}
                    )
                    assert done is not None
                    await asyncio.wait_for(done, WITHIN)
                    raw = b"".join(path.read_bytes() for path in sorted((tmp_path / "h").iterdir()))
                    assert list(core.values(raw, UID, "temperature"))[-1] == (NOON + n, f"2{n}"), "at once"
                _, done = twins.report(HALL, {"temperature": "24"}, durable=True, times={"temperature": NOON + 4})
                assert done is not None, "what has not changed is in the history, too"
                await asyncio.wait_for(done, WITHIN)

                def shown(*argv: str) -> tuple[int, str]:
                    code = main(["devices", "history", *argv, "--broker", f"127.0.0.1:{bus.port}"])
                    printed = capsys.readouterr()
                    assert ("no values: is other in the annotation" in printed.err) == (argv == ("hall", "other"))
                    return code, printed.out

                code, out = await asyncio.to_thread(shown, "hall", "temperature", "-o", "json", "--count", "3")
                assert code == 0 and json.loads(out) == [[NOON + n, f"2{n}"] for n in (2, 3, 4)]
                code, out = await asyncio.to_thread(shown, "default/hall", "temperature")
                assert code == 0 and len(out.splitlines()) == 5 and out.splitlines()[0].endswith("20")
                assert await asyncio.to_thread(shown, "hall", "other") == (0, "")
                assert (await asyncio.to_thread(shown, "hall", "other", "-o", "json"))[1].strip() == "[]"
                assert (await asyncio.to_thread(shown, "none", "other"))[0] != 0

                def full(fd: int, data: bytes, offset: int) -> int:
                    raise OSError(errno.ENOSPC, "no room")

                monkeypatch.setattr(os, "pwrite", full)  # the newest value is not held up by it
                _, done = twins.report(HALL, {"temperature": "29"}, durable=True)
                assert done is not None
                await asyncio.wait_for(done, WITHIN)
                monkeypatch.undo()
                assert (await twins.history(HALL, "temperature", 0, 9))[-1] == (NOON + 4, "24")
        finally:
            await store.close()

    asyncio.run(run())
