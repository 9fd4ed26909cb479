"""Updates of the emulated machine's image: one that works, with the power cut while it is written and while it is tried, and one without a kernel."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.report import ROOT
from cardimage.signing import UpdateKey
from cardimage.slot_image import write_bundle
from kubeedge.errors import KubeEdgeError
from kubeedge.imageupdate import card
from kubeedge.imageupdate.bundle import CHUNK, Manifest
from kubeedge.imageupdate.core import SECTOR, Slots, UpdateOutcome
from kubeedge.imageupdate.driver import read_manifest
from kubeedge.imageupdate.module import ANNOTATION, CONDITION
from kubeedge.imageupdate.source import FileSource
from tests.kit.topology import until

if TYPE_CHECKING:
    from bench.boot.__main__ import Boot

_TIMEOUT = 900.0  # seconds
_MOST_STARTS = 8


def bundle_of(image: Path) -> Path:
    """The update that has the same contents as the image of a card."""
    return image.with_name(image.name.removesuffix(".img.xz") + ".bundle")


def not_signed(bundle: Path, key: Path) -> str:
    """ "" or why updates that this key signs are none for the machine: said before minutes of starts."""
    if not key.exists():
        return f"{key}: there is no such key"
    try:
        source = FileSource(bundle)
        try:
            read_manifest(source, (UpdateKey(key).public,))
        finally:
            source.close()
    except (OSError, ValueError, KubeEdgeError) as exc:
        return f"{bundle.name}: {exc}"
    return ""


class ImageUpdate:
    """Of the machine of a run, by the annotation of its Node."""

    def __init__(self, run: Boot, name: str, of: Path, key: UpdateKey, directory: Path) -> None:
        self._run, self._name, self._of, self._key, self._directory = run, name, of, key, directory
        directory.mkdir(parents=True, exist_ok=True)

    def serve(self, address: str) -> None:
        """The bundles, where the machine finds them."""
        log = self._directory / "files.log"
        self._run.host.spawn(
            sys.executable, "-m", "bench.boot.files", str(self._directory), log=log, env={"PYTHONPATH": str(ROOT)}
        )
        until(lambda: log.exists() and b"listening" in log.read_bytes(), timeout=60, what="the server of bundles")
        self._url = f"http://{address}:{log.read_text().split()[1]}/"

    def good(self) -> None:
        """Written in two goes, tried in two."""
        spare = self._slots().spare
        self._annotate(self._make("good", "good", _with_argument))
        self._wait(lambda: self._written(spare) > 8, "8 MiB of the slot are written")
        self._run.machine.cut()
        self._run.say("power cut while the other slot is written")
        self._start()
        self._ends("the machine starts again by itself")
        assert self._slots().armed == spare, self._slots()
        self._start()
        self._wait(
            lambda: b"card: slot b" in self._console() and b"card: joined" in self._console(), "the new image's agent"
        )
        self._run.machine.cut()
        self._run.say("power cut while the new image is tried")
        self._start()
        self._ends("the image before it tries it once more")
        assert b"card: slot a" in self._console() and b"is tried once more" in self._console()
        self._start()
        self._wait(lambda: b"in slot b works" in self._console(), "the new image is good")
        slots = self._slots()
        assert (slots.good, slots.outcome) == (spare, UpdateOutcome.WORKS), slots
        self._wait(lambda: self._condition() == ("True", "UpToDate"), f"{CONDITION} of the Node")
        self._run.say(f"image updated {self._run.since_on():.1f} s after power-on; {CONDITION} says so")

    def bad(self) -> None:
        """It is given up, and the node works on."""
        good = self._slots().good
        self._annotate(self._make("bad", "bad", _without_kernel))
        self._ends("the machine starts again by itself")
        starts = 0
        while True:
            starts += 1
            assert starts <= _MOST_STARTS, "it is tried for ever"
            self._start()
            until(lambda: not self._run.machine.alive() or self._slots().trial is None, timeout=_TIMEOUT, what="a try")
            if self._slots().trial is None:
                break
        slots = self._slots()
        assert (slots.good, slots.outcome) == (good, UpdateOutcome.GIVEN_UP), slots
        self._wait(lambda: self._condition() == ("False", "GivenUp"), f"{CONDITION} of the Node")
        self._run.say(f"an image without a kernel was given up after {starts} starts: {self._condition()[1]}")

    # -- the machine ---------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._run.machine.start(self._run.emulated.u_boot)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        self._run.until(condition, what)

    def _ends(self, what: str) -> None:
        until(lambda: not self._run.machine.alive(), timeout=_TIMEOUT, what=what)
        self._run.say(what)

    def _console(self) -> bytes:
        return self._run.machine.console()

    def _slots(self) -> Slots:
        with card.opened(self._run.card, write=False) as own:
            return own.record()

    def _written(self, slot: int) -> int:
        """MiB of a slot that was empty."""
        with card.opened(self._run.card, write=False) as own:
            return sum(any(own.read(slot, number * CHUNK, 4096)) for number in range(16))

    # -- the Node ------------------------------------------------------------------------------------------------------

    def _annotate(self, file: str) -> None:
        self._run.kubectl("annotate", "--overwrite", "node", self._name, f"{ANNOTATION}={self._url}{file}")

    def _condition(self) -> tuple[str, str]:
        found: list[dict[str, Any]] = self._run.kubectl.json("get", "node", self._name)["status"]["conditions"]
        return next(((c["status"], c["reason"]) for c in found if c["type"] == CONDITION), ("", ""))

    # -- bundles -------------------------------------------------------------------------------------------------------

    def _make(self, name: str, version: str, change: Callable[[bytearray, Manifest], None]) -> str:
        source = FileSource(self._of)
        manifest, start = read_manifest(source, (self._key.public,))
        contents = bytearray(source.read(start, manifest.size))
        source.close()
        change(contents, manifest)
        digests = (hashlib.sha256(contents[at : at + CHUNK]).digest() for at in range(0, len(contents), CHUNK))
        made = replace(manifest, version=version, epoch=manifest.epoch + 1, digests=b"".join(digests))
        (self._directory / "contents").write_bytes(contents)
        write_bundle(self._directory / name, made, self._directory / "contents", self._key.sign(made))
        return name


def _with_argument(contents: bytearray, manifest: Manifest) -> None:
    """Another image, which works as well."""
    at = manifest.arguments
    text = bytes(contents[at : at + SECTOR]).rstrip(b"\0\n") + b" card.updated=1\n"
    contents[at : at + SECTOR] = text.ljust(SECTOR, b"\0")


def _without_kernel(contents: bytearray, manifest: Manifest) -> None:
    contents[manifest.kernel : manifest.kernel + manifest.kernel_bytes] = bytes(manifest.kernel_bytes)
