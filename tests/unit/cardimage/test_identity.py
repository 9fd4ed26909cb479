"""Who a machine is, by the very script of the initramfs (under busybox), and cut off after each of its flushes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from cardimage.root import FILES

# `flush` keeps what is on the card; before the first one a name may be there, and nothing in the file
_SCRIPT = """
card=$1 etc=$2 cut=$3 flushes=0
. "$4"
flush() { rm -rf "$card.kept"; cp -r "$card" "$card.kept"; flushes=$((flushes + 1)); [ $flushes != "$cut" ] || kill -9 $$; }
make_identity "$card" "$etc"
"""


class Machine:
    def __init__(self, directory: Path) -> None:
        self.card, self.etc = directory / "card", directory / "etc"
        self.card.mkdir()
        self.etc.mkdir()

    def start(self, *, cut: int = 0) -> str:
        """What its programs read; "" when the power went before."""
        (self.etc / "machine-id").unlink(missing_ok=True)
        arguments = [str(self.card), str(self.etc), str(cut), str(FILES / "identity")]
        subprocess.run(["busybox", "sh", "-c", _SCRIPT, "sh", *arguments], check=not cut)
        found = self.etc / "machine-id"
        return found.read_text().strip() if found.exists() else ""

    def lose_power(self) -> None:
        """What was not flushed is a name without its contents."""
        kept = self.card.with_name("card.kept")
        for file in self.card.iterdir():
            flushed = kept / file.name
            file.write_bytes(flushed.read_bytes() if flushed.exists() else b"")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_that_has_said_who_it_is_stays_so_whenever_the_power_goes(machine: Machine) -> None:
    first = machine.start()
    assert re.fullmatch("[0-9a-f]{32}", first)
    machine.lose_power()
    assert machine.start() == first


@pytest.mark.parametrize("cut", [1, 2])
def test_a_cut_before_it_has_said_so_leaves_one_identity(machine: Machine, cut: int) -> None:
    assert machine.start(cut=cut) == ""
    machine.lose_power()
    first = machine.start()
    machine.lose_power()
    assert re.fullmatch("[0-9a-f]{32}", first) and machine.start() == first


def test_a_file_that_a_cut_has_emptied_is_made_again(machine: Machine) -> None:
    (machine.card / "machine-id").touch()
    assert re.fullmatch("[0-9a-f]{32}", machine.start())


def test_a_card_that_keeps_nothing_has_one_for_this_start(machine: Machine) -> None:
    machine.card.rmdir()
    machine.card.write_text("no directory")
    first = machine.start()
    assert re.fullmatch("[0-9a-f]{32}", first) and machine.start() != first
