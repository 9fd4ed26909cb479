"""Power cuts at every write to a card: python -m tests.faults.powercut_image --cuts 10000 [--seed 1] [--log FILE]

The writes are those of an emulated machine (QEMU's blklogwrites): the first start, in which the data partition is made, joining, and updates of the
image, each with power cuts of its own (bench/boot/update.py). Without a log that run is made first; it takes minutes. `parts` are the same steps
without a machine, for the unit tests: the initramfs's own script and mke2fs, and the product's update of a slot.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench.report import ROOT
from cardimage import fat
from cardimage.root import FILES
from cardimage.signing import DEFAULT, UpdateKey
from kubeedge.imageupdate import card, core, driver
from kubeedge.imageupdate.bundle import Manifest
from kubeedge.imageupdate.core import SECTOR
from kubeedge.imageupdate.source import FileSource
from tests.faults.card_replay import Card, Cuts, Step, Write, differences, read_log, replay
from tests.kit.card_images import BOOT, END, contents, disk, machine, manifest, packed

LOG = ROOT / "build" / "powercut-image" / "writes.log"
_DATA = 40 << 20  # bytes of the data partition of `parts`
_SCRIPT = """
work=$1 disk=$2 number=0
. "$4"
reread() { :; }
flush() { /bin/cp --sparse=always "$disk" "$work/$number"; number=$((number + 1)); }
make_file_system() {
    /sbin/mke2fs -q -F -t ext4 -m 0 -E "lazy_itable_init=1,lazy_journal_init=1,nodiscard,offset=$(($(number "$disk" 502) * 512))" \
        "$disk" "$(($(number "$disk" 506) / 2))k" >/dev/null
}
make_data_partition "$disk" "$3"
"""


class Recording(card.Card):
    """A card that tells what is written to it."""

    steps: list[Step]

    def sync(self) -> None:
        super().sync()
        self.steps.append(None)

    def _put(self, offset: int, data: bytes) -> None:
        super()._put(offset, data)
        self.steps.append(Write(offset, bytes(data)))


def parts(directory: Path) -> tuple[Path, list[Step], list[Manifest]]:
    """A card as it is when it is new, what is written to it until two updates have been made, and the images that it has had."""
    new, now = directory / "new", directory / "now"
    images = [contents(seed) for seed in range(3)]
    disk(new, images[0])
    fat.make(directory / "fat", BOOT.sectors * SECTOR, {"boot.scr": b"script"}, 0, 1)
    with new.open("r+b") as file:
        file.seek(BOOT.start * SECTOR)
        file.write((directory / "fat").read_bytes())
        file.truncate(END * SECTOR + _DATA)
    now.write_bytes(new.read_bytes())
    steps = _first_start(directory, now)
    known = [manifest(images[0], 1, version="1.0")]
    for epoch, data in enumerate(images[1:], 2):
        known.append(manifest(data, epoch))
        (directory / "bundle").write_bytes(packed(data, known[-1]))
        steps += _update(now, directory / "bundle", epoch)
    return new, steps, known


def _first_start(directory: Path, now: Path) -> list[Step]:
    before = now.read_bytes()
    arguments = [str(directory), str(now), str(now.stat().st_size // SECTOR), str(FILES / "data-partition")]
    subprocess.run(["busybox", "sh", "-c", _SCRIPT, "sh", *arguments], check=True)
    steps: list[Step] = []
    for number in range(3):
        after = (directory / str(number)).read_bytes()
        steps += differences(before, after)
        before = after
    return steps


def _update(now: Path, bundle: Path, epoch: int) -> list[Step]:
    """By the product, and what the boot loader and the proof write after it; the first try fails."""
    own, source = Recording(now), FileSource(bundle)
    own.steps = []
    driver.update(source, own, own.record().good, machine(epoch), lambda text: None)
    for works in (False, True):
        slots = own.record()
        own.write_record(replace(slots, armed=None, generation=slots.generation + 1))
        slots = own.record()
        again = core.started(slots, slots.good)[1]
        assert again is not None and slots.trial is not None
        own.write_record(core.works(slots, slots.trial) if works else again)
    own.close()
    source.close()
    return own.steps


def cut(
    new: Path, steps: list[Step], known: list[Manifest], cuts: int, seed: int, report: Callable[[int], None]
) -> Cuts:
    """Of a copy of the new card."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 3 * new.stat().st_size
    with tempfile.TemporaryDirectory(prefix="kubeedge-powercut-", dir=memory if roomy else new.parent) as directory:
        copy = Path(directory) / "card"
        subprocess.run(["cp", "--sparse=always", str(new), str(copy)], check=True)
        replayed = Card(copy, known, Path(directory))
        try:
            return replay(replayed, steps, cuts, seed, report)
        finally:
            replayed.close()


def _recorded(log: Path, key: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    (image,) = sorted((ROOT / "dist/images").glob("kubeedge-tiny-*.img.xz"))
    command = [sys.executable, "-m", "bench.boot", str(image), "--steps", "update", "--record", str(log)]
    command += ["--update-key", str(key)]
    subprocess.run([*command, "--results", str(ROOT / "build/results")], check=False, cwd=ROOT)
    if not log.exists():
        raise SystemExit("no write was recorded")


def _images(key: UpdateKey) -> list[Manifest]:
    found = []
    for path in (
        *sorted((ROOT / "dist/images").glob("kubeedge-tiny-*.bundle")),
        *sorted((ROOT / "build/boot/tiny/bundles").iterdir()),
    ):
        if path.name not in ("contents", "files.log"):
            source = FileSource(path)
            found.append(driver.read_manifest(source, (key.public,))[0])
            source.close()
    return found


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="make powercut-image", description=__doc__)
    parser.add_argument("--cuts", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--log", type=Path, default=LOG, help="made where it is not there")
    parser.add_argument("--update-key", type=Path, default=DEFAULT)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    if not options.log.exists():
        _recorded(options.log, options.update_key)
    steps = list(read_log(options.log))
    began = time.monotonic()

    def report(done: int) -> None:
        if done % 500 == 0:
            print(f"{done} of {options.cuts}, {time.monotonic() - began:.0f} s", flush=True)

    result = cut(
        options.log.with_name("card.img"),
        steps,
        _images(UpdateKey(options.update_key)),
        options.cuts,
        options.seed,
        report,
    )
    print(
        f"{result.cuts} cuts in {result.steps} writes and flushes: {len(result.wrong)} dead; "
        f"{result.trials} with a new image about to be tried, {result.repaired} with e2fsck of the data; {time.monotonic() - began:.0f} s"
    )
    for text in result.wrong[:20]:
        print(text)
    return 1 if result.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
