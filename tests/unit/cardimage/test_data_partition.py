"""The data partition of a card, made by the very script of the initramfs (under busybox), and cut off after each of its writes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cardimage import boot_script
from cardimage.boards import BOARDS
from cardimage.root import FILES
from kubeedge.imageupdate import core, mbr
from kubeedge.imageupdate.core import SlotLayout

SECTORS = 1 << 20  # of the card
SLOTS_END = 24576 + 8192
_LARGEST = (1 << 32) - 1

# what init defines there: what is done is told, and `cut` is the write after which the power goes
_SCRIPT = """
work=$1 cut=$4 writes=0
. "$5"
said() { echo "$*" >>"$work/done"; }
power() { writes=$((writes + 1)); [ $writes != "$cut" ] || kill -9 $$; }
reread() { said reread; }
flush() { power; }
make_file_system() { said make; printf made >"$work/file-system"; power; }
make_data_partition "$2" "$3"
"""


class Card:
    """A card of which the first sector is real, and the file system a file."""

    def __init__(self, directory: Path, partitions: list[mbr.Partition]) -> None:
        self.directory = directory
        self.disk = directory / "disk"
        self.disk.write_bytes(mbr.table(partitions, 0x12345678) + bytes(4096))

    def start(self, *, cut: int = 0, sectors: int = SECTORS) -> subprocess.CompletedProcess[str]:
        (self.directory / "done").unlink(missing_ok=True)
        arguments = [str(self.directory), str(self.disk), str(sectors), str(cut), str(FILES / "data-partition")]
        return subprocess.run(["busybox", "sh", "-c", _SCRIPT, "sh", *arguments], capture_output=True, text=True)

    @property
    def done(self) -> list[str]:
        path = self.directory / "done"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def partitions(self) -> list[mbr.Partition]:
        return mbr.read(self.disk.read_bytes()[:512])


@pytest.fixture
def parts() -> list[mbr.Partition]:
    slots = [mbr.Partition(mbr.LINUX, start, 8192) for start in (16384, 24576)]
    return [mbr.Partition(mbr.FAT, 8192, 8192, active=True), *slots]


def test_the_first_start_makes_it_up_to_the_end_of_the_card_and_later_ones_leave_it(
    tmp_path: Path, parts: list[mbr.Partition]
) -> None:
    card = Card(tmp_path, parts)
    assert card.start().returncode == 0
    assert card.done == ["reread", "make"]
    assert card.partitions == [*parts, mbr.Partition(mbr.LINUX, SLOTS_END, SECTORS - SLOTS_END)]
    before = card.disk.read_bytes()
    assert card.start().returncode == 0 and card.done == []
    assert card.disk.read_bytes() == before
    assert len(before) == 512 + 4096 and before[:440] == bytes(440), "nothing else of the card was written"


@pytest.mark.parametrize("first", range(1, 6))
@pytest.mark.parametrize("second", (0, 2, 4))
def test_wherever_the_power_goes_the_next_start_ends_in_a_whole_partition(
    tmp_path: Path, parts: list[mbr.Partition], first: int, second: int
) -> None:
    card = Card(tmp_path, parts)
    for cut in filter(None, (first, second)):
        card.start(cut=cut)
        assert card.partitions[:3] == parts
        if card.partitions[3:] and card.partitions[3].kind == mbr.LINUX:
            assert (tmp_path / "file-system").exists(), "said to be whole before it was made"
            (tmp_path / "file-system").write_text("data")
    assert card.start().returncode == 0
    assert card.partitions[3] == mbr.Partition(mbr.LINUX, SLOTS_END, SECTORS - SLOTS_END)
    assert (tmp_path / "file-system").read_text() in ("made", "data")
    assert not ((tmp_path / "file-system").read_text() == "made" and card.done == []) or first > 3 or second > 3


def test_data_is_never_made_again(tmp_path: Path, parts: list[mbr.Partition]) -> None:
    card = Card(tmp_path, [*parts, mbr.Partition(mbr.LINUX, 32768, 4096)])
    assert card.start().returncode == 0
    assert card.done == []


def test_a_partition_of_somebody_else_is_left_alone_and_said(tmp_path: Path, parts: list[mbr.Partition]) -> None:
    other = mbr.Partition(mbr.FAT, 32768, 4096)
    card = Card(tmp_path, [*parts, other])
    done = card.start()
    assert done.returncode != 0 and "is another's (its type is 12)" in done.stdout
    assert card.partitions == [*parts, other] and card.done == []


def repaired(directory: Path, check: str) -> str:
    """What is said, where e2fsck is `check`."""
    script = f'work=$1\n. "$2"\ncheck_file_system() {{ {check}; }}\nrepair_file_system'
    run = ["busybox", "sh", "-c", script, "sh", str(directory), str(FILES / "data-partition")]
    return subprocess.run(run, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("status", "asked"), [(0, "-p"), (1, "-p"), (2, "-p"), (4, "-p-y"), (8, "-p-y"), (12, "-p-y")])
def test_damage_that_is_not_repaired_by_itself_is_repaired_before_it_is_mounted(
    tmp_path: Path, status: int, asked: str
) -> None:
    said = repaired(tmp_path, f'printf %s "$1" >>"$work/asked"; echo damaged; return {status}')
    assert (tmp_path / "asked").read_text() == asked and ("damaged" in said) == (status > 0)


@pytest.mark.skipif(not Path("/sbin/debugfs").exists(), reason="e2fsprogs are not installed")
def test_two_files_that_claim_one_block_are_told_apart(tmp_path: Path) -> None:
    """The real e2fsck: -p leaves this as it is, and the kernel mounts it."""
    image = tmp_path / "image"
    image.write_bytes(bytes(16 << 20))
    (tmp_path / "files").mkdir()
    for name in "ab":
        (tmp_path / "files" / name).write_bytes(name.encode() * 65536)
    subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", "-d", str(tmp_path / "files"), str(image)], check=True)

    def debugfs(*request: str) -> str:
        command = ["/sbin/debugfs", "-w", "-R", " ".join(request), str(image)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    # the third word of an extent's entry: its lowest block
    debugfs("set_inode_field", "b", "block[5]", debugfs("bmap", "a", "0"))
    debugfs("set_super_value", "state", "2")
    checks = subprocess.run(["/sbin/e2fsck", "-p", str(image)], capture_output=True)
    assert checks.returncode == 4
    assert "Multiply-claimed" in repaired(tmp_path, f'/sbin/e2fsck "$1" {image}')
    assert subprocess.run(["/sbin/e2fsck", "-fn", str(image)], capture_output=True).returncode == 0
    assert debugfs("cat", "a") == "a" * 65536


def test_whether_what_starts_is_on_trial(tmp_path: Path) -> None:
    """As the record says that the agent's part reads (kubeedge.imageupdate.core)."""
    disk = tmp_path / "disk"

    def trials(first: bytes, second: bytes) -> list[bool]:
        disk.write_bytes(bytes(2 << 20) + bytes(512))
        with disk.open("r+b") as file:
            for sector, copy in zip(core.COPIES, (first, second), strict=True):
                file.seek(sector * 512)
                file.write(copy)
        script = ["busybox", "sh", "-c", '. "$1"; on_trial "$2" "$3"', "sh", str(FILES / "data-partition"), str(disk)]
        return [subprocess.run([*script, str(slot)]).returncode == 0 for slot in (1, 2)]

    layouts, images = (SlotLayout(), SlotLayout()), (core.SlotImage(), core.SlotImage())
    old = core.Slots(255, 0, layouts, images)
    new = core.arm(core.begin(old), SlotLayout(), core.SlotImage())
    packed = core.pack(old), core.pack(new)
    assert trials(*packed) == trials(*packed[::-1]) == [False, True]
    assert trials(packed[0], core.pack(core.works(new, 1))) == [False, False]
    assert trials(packed[0], b"") == trials(b"", b"") == [False, False]
    back = core.arm(core.begin(core.works(new, 1)), SlotLayout(), core.SlotImage())
    assert trials(core.pack(back), packed[1]) == [True, False]


def test_a_card_without_space_says_so(tmp_path: Path, parts: list[mbr.Partition]) -> None:
    card = Card(tmp_path, parts)
    done = card.start(sectors=SLOTS_END + 100)
    assert done.returncode != 0 and "too small" in done.stdout
    assert card.partitions == parts


def test_a_card_that_cannot_be_written_says_so(tmp_path: Path, parts: list[mbr.Partition]) -> None:
    card = Card(tmp_path, parts)
    real, card.disk = card.disk, Path("/dev/full")
    done = card.start()
    assert done.returncode != 0
    assert mbr.read(real.read_bytes()[:512]) == parts


def test_a_card_that_is_larger_than_a_partition_table_can_say(tmp_path: Path, parts: list[mbr.Partition]) -> None:
    card = Card(tmp_path, parts)
    assert card.start(sectors=1 << 33).returncode == 0
    assert card.partitions[3].end == _LARGEST


@pytest.mark.parametrize("serial", [0, 1, 0x12345678, 0xDEADBEEF, 0xFFFFFFFF])
def test_a_card_is_found_by_what_the_kernel_was_told(tmp_path: Path, serial: int) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(mbr.table([mbr.Partition(mbr.FAT, 8192, 8192)], serial))
    script = ["busybox", "sh", "-c", '. "$1"; signature "$2"', "sh", str(FILES / "data-partition"), str(disk)]
    said = subprocess.run(script, capture_output=True, text=True, check=True).stdout.strip()
    for board in BOARDS.values():
        assert f" card.id={said} " in boot_script.script(board.loader, serial, SlotLayout())


def test_a_disk_that_cannot_be_read_is_no_card(tmp_path: Path) -> None:
    script = '. "$1"; [ "$(signature "$2")" = "" ] || echo found; echo on'
    run = ["busybox", "sh", "-c", script, "sh", str(FILES / "data-partition"), str(tmp_path / "none")]
    assert subprocess.run(run, capture_output=True, text=True).stdout.split()[-1] == "on"
