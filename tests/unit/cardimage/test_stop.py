"""A machine with busybox's init shuts down: the agent is told that it is the machine that ends, and has its time; by the very script."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cardimage.root import FILES
from kubeedge.agent import machine

#: an agent that ends its pods when the machine ends, and says so
AGENT = """
import pathlib, signal, sys, time
run = pathlib.Path(sys.argv[-1])
def end(*_):
    (run / "said").write_text(str((run / "machine-stops").exists()))
    time.sleep(float((run / "pods").read_text()))
    sys.exit()
signal.signal(signal.SIGTERM, end)
(run / "up").touch()
time.sleep(60)
"""


class CardMachine:
    """Its /run is a directory."""

    def __init__(self, run: Path) -> None:
        self.run = run
        (run / "pods").write_text("0.5")

    def agent(self, words: str = "-m kubeedge edge") -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", AGENT, *words.split(), str(self.run)])
        (self.run / "agent.pid").write_text(f"{process.pid}\n")
        while not (self.run / "up").exists():
            time.sleep(0.01)
        return process

    def stop(self, patience: int = 60) -> None:
        text = (FILES / "stop").read_text().replace("/run/", f"{self.run}/").replace("left=60", f"left={patience}")
        text = "\n".join(line for line in text.splitlines() if not line.startswith(("sync", "mount")))
        subprocess.run(["busybox", "sh", "-c", text], check=True)


@pytest.fixture
def card(tmp_path: Path) -> CardMachine:
    return CardMachine(tmp_path)


def test_pods_end_before_the_machine_does(card: CardMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "STOPS", card.run / "machine-stops")
    with card.agent() as agent:
        assert not asyncio.run(machine.shuts_down())
        card.stop()
        assert (card.run / "said").read_text() == "True" and asyncio.run(machine.shuts_down())
        assert agent.wait(10) == 0


def test_an_agent_that_hangs_is_not_waited_for_without_end(card: CardMachine) -> None:
    (card.run / "pods").write_text("60")
    with card.agent() as agent:
        began = time.monotonic()
        card.stop(patience=1)
        assert time.monotonic() - began < 30 and agent.poll() is None
        agent.kill()


def test_another_process_is_left_alone(card: CardMachine) -> None:
    """One that has not become the agent yet, or has the number of one that has ended."""
    with card.agent("-m kubeedge_card") as other:
        card.stop()
        assert other.poll() is None and not (card.run / "said").exists()
        other.kill()
    card.stop()
    (card.run / "agent.pid").unlink()
    card.stop()
