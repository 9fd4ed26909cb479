"""Why an update was refused is on the boot partition, for people without a login."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kubeedge.cli.main import main as kubeedge
from kubeedge.imageupdate import card, driver
from kubeedge_card import boot_partition, status, tell
from tests.kit.card_images import contents, disk, manifest, packed, public

SAID = status.text("joined", "", name="cam7", addresses="192.0.2.7", version="0.1.0", now=0)
NEW = contents(2)


@pytest.fixture
def boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that was started from a card; its boot partition. What the image's script runs is called here."""
    for name, text in {"BOARD": "tiny\n", "EPOCH": "2\n", "KEYS": f"{public().hex()}\n", "TELL": ""}.items():
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(driver, name, tmp_path / name)
    monkeypatch.setattr(driver, "_LOCK", tmp_path / "lock")
    disk(tmp_path / "disk", contents(1), epoch=2)
    for name, text in {"DISK": f"{tmp_path}/disk\n", "_COMMAND_LINE": "card.slot=a"}.items():
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(card, name, tmp_path / name)
    (tmp_path / "TELL").write_text(f'#!/bin/sh\nprintf %s "$1" >{tmp_path}/told\n')
    (tmp_path / "TELL").chmod(0o755)
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot" / status.NAME).write_bytes(SAID.encode())
    monkeypatch.setattr(boot_partition, "DIRECTORY", tmp_path / "boot")
    return tmp_path / "boot"


def written(boot: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """The status file, after the script of the image has done what it does; and how often the partition was made writable for it."""
    modes: list[str] = []
    monkeypatch.setattr(boot_partition, "_remount", modes.append)
    monkeypatch.setattr(tell.sys, "argv", ["tell", (boot.parent / "told").read_text()])
    assert tell.main() == 0
    return (boot / status.NAME).read_bytes().decode(), modes.count("rw")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (packed(NEW, manifest(NEW, 1)), "older"),
        (packed(NEW, manifest(NEW, 6, "rpi4")), "rpi4"),
        (packed(NEW)[:300], "truncated"),
        (packed(NEW, manifest(NEW, 6), Ed25519PrivateKey.from_private_bytes(b"x" * 32)), "not signed"),
        (packed(NEW, manifest(NEW, 6))[:-1] + b"\0", "damaged"),
    ],
)
def test_each_reason_is_written_once(boot: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, why: str) -> None:
    (boot.parent / "bundle").write_bytes(data)
    for writes in (1, 0):  # the same again, as an annotation that stays has it
        assert kubeedge(["image-update", "--no-restart", str(boot.parent / "bundle")]) == 1
        text, count = written(boot, monkeypatch)
        assert count == writes and text.startswith(SAID.rstrip()) and text.count("update:") == 1
        assert why in text.partition("update:")[2] and "refused" in text


def test_a_bundle_that_is_not_there(boot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kubeedge(["image-update", "--no-restart", str(boot.parent / "none")]) == 1
    assert "refused" in written(boot, monkeypatch)[0]


def test_what_is_taken_says_nothing(boot: Path) -> None:
    (boot.parent / "bundle").write_bytes(packed(NEW, manifest(NEW, 6)))
    assert kubeedge(["image-update", "--no-restart", str(boot.parent / "bundle")]) == 0
    assert not (boot.parent / "told").exists()


def test_a_boot_partition_that_cannot_be_written_is_said(
    boot: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def worn(mode: str) -> None:
        raise OSError("the boot partition cannot be mounted rw")

    monkeypatch.setattr(boot_partition, "_remount", worn)
    monkeypatch.setattr(tell.sys, "argv", ["tell", "refused: x"])
    assert tell.main() == 1 and "cannot be mounted rw" in capsys.readouterr().err


def test_a_later_reason_takes_the_place_of_the_one_before() -> None:
    once = status.with_update(SAID, "refused: a\nb")
    assert once.endswith("update:\r\n  refused: a\r\n  b\r\n")
    assert status.with_update(once, "refused: c") == status.with_update(SAID, "refused: c")
    assert status.with_update("", "x").endswith("update:\r\n  x\r\n")
