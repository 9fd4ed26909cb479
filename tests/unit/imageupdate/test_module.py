"""The annotation of a Node is followed: one update at a time, tried again after a failure, and nothing is written where nothing is new."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from kubeedge.api import keys
from kubeedge.cli.main import main as kubeedge
from kubeedge.errors import Unavailable
from kubeedge.imageupdate import card, core, driver, module
from kubeedge.imageupdate.core import Slots, UpdateOutcome
from kubeedge.imageupdate.module import ANNOTATION, REPORT, ImageUpdates, wanted_url
from kubeedge.store.memory import MemoryStore
from tests.kit import virtual_time
from tests.kit.card_images import contents, disk, manifest, packed, public

NODE = keys.desired("nodes", "", "cam7")
URL = "https://example.com/a.bundle"


class Node:
    """An agent of which only this module runs."""

    def __init__(self, outcome: Slots | None = None) -> None:
        self.store, self.asked, self.restarts = MemoryStore(), list[str](), 0
        self.answers: list[bool | Exception | float] = []
        self.module = ImageUpdates(
            self.store, "cam7", chance=lambda: 1.0, update=self.update, restart=self.restart, outcome=lambda: outcome
        )

    async def update(self, url: str) -> bool:
        self.asked.append(url)
        answer = self.answers.pop(0)
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            return True
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def restart(self) -> None:
        self.restarts += 1

    async def annotate(self, url: str) -> None:
        value = {"metadata": {"name": "cam7", "annotations": {ANNOTATION: url} if url else {}}, "spec": {}}
        await self.store.put(NODE, json.dumps(value).encode())

    async def said(self) -> tuple[str, str, str, int]:
        kv = await self.store.get(REPORT)
        if kv is None:
            return "", "", "", 0
        found = json.loads(kv.value)
        return found["status"], found["reason"], found["message"], kv.version


def scenario(play: Callable[[Node], Awaitable[None]], node: Node | None = None) -> None:
    async def run() -> None:
        nonlocal node
        node = node or Node()
        task = asyncio.create_task(node.module.run(asyncio.Event()))
        try:
            await play(node)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    virtual_time.run(run())


def test_an_image_that_is_wanted_is_tried() -> None:
    async def play(node: Node) -> None:
        node.answers = [True]
        await node.annotate(URL)
        await asyncio.sleep(5)
        assert node.asked == [URL] and node.restarts == 0 and (await node.said())[1] == "Restarting"
        await asyncio.sleep(60)
        assert node.restarts == 1

    scenario(play)


def test_one_that_runs_already_is_asked_for_once() -> None:
    async def play(node: Node) -> None:
        node.answers = [False]
        await node.annotate(URL)
        await asyncio.sleep(9_000)
        for _ in range(5):  # the row changes, the annotation does not
            await node.annotate(URL)
            await asyncio.sleep(1)
        assert node.asked == [URL] and node.restarts == 0
        assert await node.said() == ("True", "UpToDate", f"the image is that of {URL}", 1)

    scenario(play)


def test_what_may_be_secret_in_a_url_is_in_no_condition() -> None:
    url = "https://user:s3cr3t@example.com/a.bundle?X-Amz-Signature=s3cr3t"

    async def play(node: Node) -> None:
        for answer, reason in ((False, "UpToDate"), (40.0, "Updating"), (True, "Restarting")):
            node.answers = [answer]
            await node.annotate("")
            await node.annotate(f"{url}&{reason}")
            await asyncio.sleep(35)
            assert node.asked[-1] == f"{url}&{reason}"
            _, said, message, _ = await node.said()
            assert said == reason and "https://example.com/a.bundle?..." in message and "s3cr3t" not in message

    scenario(play)


def test_what_takes_long_is_said_and_given_up_for_another() -> None:
    async def play(node: Node) -> None:
        node.answers = [9_999.0, 9_999.0, False]
        await node.annotate(URL)
        await asyncio.sleep(40)
        assert (await node.said())[:2] == ("False", "Updating")
        await node.annotate(URL + "2")
        await asyncio.sleep(1)
        await node.annotate("")
        await asyncio.sleep(10_000)
        assert node.asked == [URL, URL + "2"] and node.restarts == 0
        await node.annotate(URL)
        await asyncio.sleep(1)
        assert (await node.said())[:2] == ("True", "UpToDate")

    scenario(play)


def test_a_failure_is_said_and_tried_again_ever_later() -> None:
    async def play(node: Node) -> None:
        node.answers = [Unavailable("no server")] * 9
        await node.annotate(URL)
        await asyncio.sleep(60 + 120 + 240 + 1)
        assert len(node.asked) == 4 and (await node.said())[:3] == ("False", "Failed", "no server")
        await asyncio.sleep(3 * 3600)
        assert len(node.asked) == 9, "an hour apart in the end"

    scenario(play)


@pytest.mark.parametrize("failure", [OSError(12, "Cannot allocate memory"), ValueError("embedded null byte")])
def test_a_process_that_cannot_be_started_is_a_failure_like_another(failure: Exception) -> None:
    async def play(node: Node) -> None:
        node.answers = [failure, False]
        await node.annotate(URL)
        await asyncio.sleep(5)
        assert await node.said() == ("False", "Failed", str(failure), 1)
        await asyncio.sleep(120)
        assert (await node.said())[:2] == ("True", "UpToDate")

    scenario(play)


def test_a_full_disk_keeps_no_image_from_being_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(node: Node) -> None:
        put = node.store.put

        async def full(key: str, value: bytes) -> None:
            if key == REPORT:
                raise Unavailable("the disk is full")
            await put(key, value)

        monkeypatch.setattr(node.store, "put", full)
        node.answers = [Unavailable("no server"), 40.0, True]
        await node.annotate(URL)
        await asyncio.sleep(200)
        assert len(node.asked) == 2 and node.restarts == 1
        node.answers = [False, False]
        await node.annotate(URL + "2")
        await asyncio.sleep(5)
        monkeypatch.undo()
        await asyncio.sleep(120)
        assert (await node.said())[:2] == ("True", "UpToDate"), "it is said once there is room for it"

    scenario(play)


def test_an_update_that_is_given_up_has_ended_before_the_next_begins() -> None:
    """Its process has the lock of the machine until it is gone."""
    running: list[str] = []

    async def slowly(url: str) -> bool:
        assert running == []
        running.append(url)
        try:
            await asyncio.sleep(1_000)
        finally:
            await asyncio.sleep(1)
            running.remove(url)
        return False

    async def play(node: Node) -> None:
        for number in range(3):
            await node.annotate(f"{URL}{number}")
            await asyncio.sleep(5)
            assert running == [f"{URL}{number}"]

    node = Node()
    node.module._update = slowly
    scenario(play, node)


@pytest.mark.parametrize("url", ["file:///etc/shadow", "--again", "/tmp/x", "http://" + "x" * 3000])
def test_what_is_no_url_is_not_tried(url: str) -> None:
    async def play(node: Node) -> None:
        await node.annotate(url)
        await asyncio.sleep(1)
        assert node.asked == [] and (await node.said())[:2] == ("False", "Failed")

    scenario(play)


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b'{"metadata": 5}', b'{"metadata": {"annotations": 3}}', b"\xff"])
def test_a_row_that_is_none_wants_nothing(value: bytes) -> None:
    assert wanted_url(value) == ""


def test_what_became_of_the_last_update_is_said_once(tmp_path: Path) -> None:
    slots = disk(tmp_path / "disk", contents(1))

    async def good(node: Node) -> None:
        await asyncio.sleep(5)
        assert await node.said() == ("True", "UpToDate", "image 1.0", 1)

    async def given_up(node: Node) -> None:
        await asyncio.sleep(5)
        assert (await node.said())[:3] == ("False", "GivenUp", "image : no cloud")

    scenario(good, Node(slots))
    scenario(given_up, Node(dataclasses.replace(slots, outcome=UpdateOutcome.GIVEN_UP, reason="no cloud")))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that was started from a card; its directory."""
    files = {
        "board": "tiny\n",
        "epoch": "1\n",
        "keys": f"{public().hex()}\n",
        "card-disk": f"{tmp_path}/disk\n",
        "cmdline": "x card.slot=a",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    disk(tmp_path / "disk", contents(1))
    for where, name, file in (
        (driver, "BOARD", "board"), (driver, "EPOCH", "epoch"), (driver, "KEYS", "keys"), (driver, "_LOCK", "lock"),
        (card, "DISK", "card-disk"), (card, "_COMMAND_LINE", "cmdline"),
    ):  # fmt: skip
        monkeypatch.setattr(where, name, tmp_path / file)
    return tmp_path


def test_the_command(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (machine / "new").write_bytes(packed(contents(2)))
    assert kubeedge(["image-update"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["SLOT", "a", "b"] and rows[1][-2:] == ["good", "yes"] and rows[2][-1] == "empty"
    assert kubeedge(["image-update", "--no-restart", "-o", "json", str(machine / "new")]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["armed"] and found["tries"] == 2 and found["slots"][1]["state"] == "on trial"
    assert "tried at the next start" in shown.err
    (machine / "new").write_bytes(packed(contents(2), manifest(contents(2), 0)))
    assert kubeedge(["image-update", "--no-restart", str(machine / "new")]) == 1
    assert "older" in capsys.readouterr().err
    assert kubeedge(["image-update", "--no-restart", "--allow-older", str(machine / "new")]) == 0


def test_two_updates_at_the_same_time(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with driver.alone():
        assert kubeedge(["image-update", "--no-restart", str(machine / "new")]) == 1
    assert "in progress" in capsys.readouterr().err


def test_a_machine_that_is_none_of_a_card(
    machine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine / "keys").write_text("")
    assert kubeedge(["image-update", "x"]) == 1 and "trusts no key" in capsys.readouterr().err
    (machine / "board").unlink()
    assert kubeedge(["image-update", "x"]) == 1 and "not started from a card" in capsys.readouterr().err
    (machine / "card-disk").unlink()
    assert kubeedge(["image-update"]) == 1 and "not started from a card" in capsys.readouterr().err
    assert module.last_outcome() is None


def test_which_bundle_may_come_by_standard_input(
    machine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine / "new").write_bytes(packed(contents(2)))
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{machine / 'new'}\n"))
    assert kubeedge(["image-update", "--no-restart", "-"]) == 0
    for url in ("http://127.0.0.1:1/a\x01?s3cr3t", "http://u:s3cr3t@127.0.0.1/a", "ftp://127.0.0.1/a?s3cr3t"):
        monkeypatch.setattr("sys.stdin", io.StringIO(url))
        assert kubeedge(["image-update", "--no-restart", "-"]) == 1
        said = capsys.readouterr().err
        assert "is no URL of a bundle" in said and "s3cr3t" not in said


def test_the_process_that_updates_says_why_it_cannot() -> None:
    """The real command, on a machine that was not started from a card."""

    async def run() -> None:
        with pytest.raises(Unavailable, match="not started from a card"):
            await module.run_update(URL)

    if not card.DISK.exists():
        asyncio.run(run())
    assert core.TRIES == 3
