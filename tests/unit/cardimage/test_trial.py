"""After an update: what a machine that has started does, and when its image is good."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kubeedge import edgecore
from kubeedge.config.edge import EdgeConfig
from kubeedge.errors import Unavailable
from kubeedge.imageupdate import card, core
from kubeedge.imageupdate.core import SlotImage, SlotLayout, Slots, UpdateOutcome
from kubeedge_card import boot_partition, config, proving, status, trial
from kubeedge_card.config import Updates
from tests.kit.card_images import contents, disk

NEW = SlotImage(2, bytes(32), "2.0")


class Restarted(Exception):
    """The machine has started again."""


class Machine:
    """One that has started from a slot of its card."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.directory, self.proofs = directory, list[list[str]]()
        disk(directory / "disk", contents(1))
        (directory / "card-disk").write_text(f"{directory}/disk\n")
        for where, name in (
            (card, "DISK"),
            (card, "_COMMAND_LINE"),
            (trial, "_PROVING"),
            (trial, "_STARTED"),
            (proving, "_LAST"),
            (proving, "_SOCKET"),
        ):
            patch.setattr(where, name, directory / {"DISK": "card-disk", "_COMMAND_LINE": "cmdline"}.get(name, name))
        patch.setattr(trial.subprocess, "Popen", lambda command, **options: self.proofs.append(command))
        patch.setattr(trial, "restart", self._restart)

    def _restart(self) -> None:
        raise Restarted

    def starts(self, slot: str) -> str:
        """The boot loader has taken back what was armed."""
        (self.directory / "cmdline").write_text(f"quiet card.id=1 card.slot={slot}\n")
        for name in ("_PROVING", "_STARTED"):  # in memory
            (self.directory / name).unlink(missing_ok=True)
        self.record = replace(self.record, armed=None, generation=self.record.generation + 1)
        return trial.at_start()

    @property
    def record(self) -> Slots:
        with card.opened(self.directory / "disk") as own:
            return own.record()

    @record.setter
    def record(self, slots: Slots) -> None:
        with card.opened(self.directory / "disk") as own:
            own.write_record(slots)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def armed(machine: Machine, tries: int = 2) -> None:
    machine.record = core.arm(core.begin(machine.record), SlotLayout(1, 1, 1, 1, 1, 1), NEW, tries)


def test_a_machine_without_an_update_says_nothing(machine: Machine) -> None:
    before = machine.record
    assert machine.starts("a") == "" and machine.record == replace(before, generation=before.generation + 1)
    (machine.directory / "disk").write_bytes(bytes(4096))
    assert trial.at_start() == ""
    (machine.directory / "card-disk").unlink()
    assert trial.at_start() == "", "a machine that was not started from a card"


def test_an_image_on_trial_has_a_process_that_waits_for_the_proof_once(machine: Machine) -> None:
    armed(machine)
    assert "on trial" in machine.starts("b")
    assert "on trial" not in trial.at_start(), "the agent has ended, and is started again"
    assert len(machine.proofs) == 1 and machine.proofs[0][-1] == "kubeedge_card.proving"


def test_what_did_not_come_up_is_tried_again_and_given_up(machine: Machine) -> None:
    armed(machine)
    with pytest.raises(Restarted):
        machine.starts("a")
    assert machine.record.armed == 1 and machine.record.tries == 0
    assert machine.starts("a") == "the update to image 2.0 was given up: it did not come up"
    assert machine.starts("a") == "the update to image 2.0 was given up: it did not come up"
    assert machine.record.outcome is UpdateOutcome.GIVEN_UP and machine.proofs == []


def test_an_agent_that_begins_again_is_no_start_of_the_machine(machine: Machine) -> None:
    """`kubeedge image-update --no-restart`: it is tried at the next start, whenever that is."""
    assert machine.starts("a") == ""
    armed(machine)
    before = machine.record
    assert trial.at_start() == "" and trial.at_start() == ""
    assert machine.record == before, "no try is used up, and the machine does not start again"
    assert "on trial" in machine.starts("b")


def test_a_card_that_could_not_be_read_is_looked_at_again(machine: Machine) -> None:
    machine.starts("a")
    armed(machine)
    (machine.directory / "_STARTED").unlink()
    (machine.directory / "card-disk").write_text(f"{machine.directory}/none\n")
    assert trial.at_start().startswith("image: ")
    (machine.directory / "card-disk").write_text(f"{machine.directory}/disk\n")
    with pytest.raises(Restarted):
        trial.at_start()


def test_a_proof_that_could_not_be_begun_is_begun_again(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    armed(machine)
    with monkeypatch.context() as patch:

        def no_memory(command: list[str], **options: Any) -> None:
            raise OSError(12, "Cannot allocate memory")

        patch.setattr(trial.subprocess, "Popen", no_memory)
        with pytest.raises(OSError, match="memory"):  # init starts this process again
            machine.starts("b")
    assert "on trial" in trial.at_start() and len(machine.proofs) == 1


def test_a_store_keeps_its_layout_until_the_image_is_good(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """edgecore asks this before it opens its store (kubeedge.store.sqlite_layouts)."""
    monkeypatch.setattr(edgecore, "CARD", tmp_path / "card-disk")

    def trial_is_seen() -> tuple[bool, bool]:
        return card.on_trial(), edgecore.store_settings(EdgeConfig()).trial

    assert trial_is_seen() == (False, False)
    armed(machine)
    assert trial_is_seen() == (True, True)
    machine.record = core.works(machine.record, 1)
    assert trial_is_seen() == (False, False)
    (tmp_path / "card-disk").write_text(f"{tmp_path}/gone")
    assert card.on_trial(), "what cannot be read may be a trial"
    (tmp_path / "card-disk").unlink()
    assert not card.on_trial() and not edgecore.store_settings(EdgeConfig()).trial


def test_the_agent_in_the_cloud_is_the_proof(machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(boot_partition, "DIRECTORY", tmp_path)
    monkeypatch.setattr(boot_partition, "_remount", lambda mode: None)
    armed(machine)
    (tmp_path / status.NAME).write_text(f"reason:\r\n  {machine.starts('b')}\r\n", newline="")
    monkeypatch.setattr(proving, "status", lambda: {"channel": {"attached": True}})
    assert proving.main() == 0
    assert (tmp_path / status.NAME).read_bytes() == b"reason:\r\n  image 2.0 in slot b works\r\n"
    assert (machine.record.good, machine.record.outcome) == (1, UpdateOutcome.WORKS)
    assert machine.starts("b") == ""


def test_an_image_without_the_cloud_starts_the_machine_again(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    armed(machine, tries=1)
    machine.starts("b")
    monkeypatch.setattr(proving, "prove", lambda *arguments: "the agent has not reached the cloud: refused")
    with pytest.raises(Restarted):
        proving.main()
    assert "refused" in machine.starts("a") and machine.record.good == 0


def test_a_record_that_cannot_be_written_keeps_no_image_without_the_cloud(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    armed(machine)
    machine.starts("b")

    def worn(own: card.Card, slots: Slots) -> None:
        raise Unavailable("the card cannot be written")

    monkeypatch.setattr(card.Card, "write_record", worn)
    monkeypatch.setattr(proving, "prove", lambda *arguments: "the agent has not reached the cloud: refused")
    with pytest.raises(Restarted):
        proving.main()
    monkeypatch.setattr(proving, "prove", lambda *arguments: "")
    assert proving.main() == 0, "one that works goes on; the next start is that of the image before"


@pytest.mark.parametrize(
    ("wanted", "answers", "said"),
    [
        (
            Updates(),
            [{}, {"channel": {"attached": False, "lastError": "no route"}}, {"channel": {"attached": True}}],
            "",
        ),
        (Updates(), [{"channel": {"attached": False, "lastError": "no route"}}], "no route (after 10 minutes)"),
        (Updates("running", 1), [OSError("refused"), {}], ""),
        (Updates("running", 1), [OSError("refused")], "does not answer: refused (after 1 minutes)"),
        (Updates("cloud", 1), [{"channel": None}], "no channel"),
    ],
)
def test_how_long_a_proof_may_take(wanted: Updates, answers: list[Any], said: str) -> None:
    now = 0.0

    def look() -> dict[str, Any]:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    found = proving.prove(wanted, look, lambda: now, sleep)
    assert (found == "") == (said == "") and said in found and now <= wanted.minutes * 60


def serve(path: Path, answer: bytes) -> Callable[[], None]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()

    def once() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(4096)
            connection.sendall(answer)

    thread = threading.Thread(target=once)
    thread.start()
    return thread.join


def test_the_agent_is_asked_on_its_socket(machine: Machine) -> None:
    end = serve(
        proving._SOCKET, b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"channel": {"attached": true}}'
    )
    assert proving.status() == {"channel": {"attached": True}}
    end()
    proving._SOCKET.unlink()
    end = serve(proving._SOCKET, b"HTTP/1.1 200 OK\r\n\r\n[]")
    with pytest.raises(ValueError):
        proving.status()
    end()


def test_when_an_image_is_good_says_the_boot_partition(machine: Machine) -> None:
    assert proving.settings(proving._LAST) == Updates()
    proving._LAST.write_text("name: a\ncloud: c\nupdates: {good: running, minutes: 3}\n")
    assert proving.settings(proving._LAST) == Updates("running", 3)
    proving._LAST.write_text("name: [")
    assert proving.settings(proving._LAST) == Updates()


@pytest.mark.parametrize(
    "updates", [{"good": "never"}, {"minutes": 0}, {"minutes": 241}, {"minutes": True}, {"x": 1}, [], {"good": []}]
)
def test_settings_that_cannot_be_are_refused(updates: object) -> None:
    with pytest.raises(config.BadConfig):
        config.parse({"name": "a", "cloud": "c", "updates": updates or 5})
