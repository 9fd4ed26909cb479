"""An image for one machine: what the options say over what a file says."""

from __future__ import annotations

import lzma
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cardimage import __main__ as command
from cardimage import fat, first_start
from kubeedge.imageupdate import mbr
from kubeedge_card import config

#: in the form of one; what is sought in images and messages is its end
TOKEN = f"{'0' * 64}.abcdef.{'s' * 32}"
SECRET = b"s" * 32


def _wanted(monkeypatch: pytest.MonkeyPatch, *options: str) -> dict[str, Any]:
    seen: list[Any] = []
    monkeypatch.setattr(command, "_personalise", lambda options: seen.append(command._wanted(options)) or 0)
    monkeypatch.setattr(command.shutil, "which", lambda program: program)
    monkeypatch.setattr(command.sys, "argv", ["cardimage", "personalise", "x.img", *options])
    assert command.main() == 0
    (fields,) = seen
    return dict(fields)


def test_options_are_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "ssh-ed25519 " + "A" * 40
    for name, text in {"token": " t0ken \nx\n", "password": "12345678 \r\n", "keys": f"# mine\n\n{key} me\n"}.items():
        (tmp_path / name).write_text(text)
    fields = _wanted(
        monkeypatch,
        *("--name", "cam7", "--cloud", "c.example", "--token-file", f"{tmp_path}/token", "--ssh-key-file", f"{tmp_path}/keys"),
        *("--wifi", "plant", "--wifi-password-file", f"{tmp_path}/password", "--country", "DE"),
        *("--address", "10.0.0.7/24", "--gateway", "10.0.0.1"),
    )  # fmt: skip
    parsed = config.parse(fields)
    assert (parsed.name, parsed.cloud, parsed.token) == ("cam7", "c.example", "t0ken")
    wifi = config.Wifi("plant", "12345678 ", "DE")
    assert parsed.network == config.Network("wlan0", "10.0.0.7/24", "10.0.0.1", wifi=wifi)
    assert parsed.ssh_keys == (f"{key} me",)


def test_what_is_not_given_is_the_file_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f.yaml").write_text("name: a\ncloud: c\nnetwork: {interface: eth1}\n")
    fields = _wanted(monkeypatch, "--config", f"{tmp_path}/f.yaml", "--name", "b", "--address", "10.0.0.7/24")
    assert fields == {"name": "b", "cloud": "c", "network": {"interface": "eth1", "address": "10.0.0.7/24"}}


def test_a_card_in_many_copies_has_a_join_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("j0in\n")
    fields = _wanted(monkeypatch, "--cloud", "c", "--join-key-file", f"{tmp_path}/key")
    assert fields == {"cloud": "c", "joinKey": "j0in"}
    parsed = config.parse(fields)
    assert (parsed.name, parsed.join_key) == ("", "j0in") and "j0in" not in repr(parsed)


GOOD = {"name": "cam7", "cloud": "cloud.example", "token": TOKEN}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": None}, "name: missing"),
        ({"name": "cam7.plant"}, "name: expected is"),
        ({"token": None}, "token: missing"),
        ({"token": "PUT-THE-TOKEN-HERE"}, "token: a token looks like"),
        ({"name": None, "token": None, "joinKey": TOKEN[:-1]}, "joinKey: a token looks like"),
        ({"cloud": "cloud.example:99999"}, "cloud: 'cloud.example:99999' is not HOST or HOST:PORT"),
        ({"network": {"address": "192.168.1.0/24"}}, "network.address: 192.168.1.0/24 is the network itself"),
        ({"network": {"address": "192.168.1.7/24", "gateway": "10.0.0.1"}}, "10.0.0.1 is not in 192.168.1.0/24"),
        ({"network": {"address": "192.168.1.7/24", "gateway": "fe80::1"}}, "fe80::1 is not in 192.168.1.0/24"),
        ({"agent": {"modules": {"device": {"enable": True}}}}, "agent: modules.device"),
        ({"agent": {"modules": {"devices": {"enable": "yes please"}}}}, "agent: modules.devices.enable"),
        ({"agent": {"kind": "Pod"}}, "agent: "),
    ],
)
def test_what_a_first_start_would_find_is_said_before(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        first_start.check({name: value for name, value in {**GOOD, **change}.items() if value is not None})
    assert SECRET.decode() not in str(refused.value) and "kubeedge-card-" not in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"cloud": "[2001:db8::1]:10002", "network": {"address": "10.0.0.0/31", "gateway": "10.0.0.1"}},
        {"agent": {"modules": {"devices": {"enable": True, "mappers": ["gpio"]}}}},
    ],
)
def test_what_a_first_start_would_take_is_taken(change: dict[str, Any]) -> None:
    first_start.check({**GOOD, **change})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (f"name: a\ntoken: {TOKEN}\n  x: y\n".encode(), "line 3: "),
        (b"name: caf\xe9\n", "is no text in UTF-8"),
        (b"a: &a [1]\nb: *a\n", "names that stand for"),
        (None, "f.yaml: No such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_its_token_is_not(
    tmp_path: Path,
    image: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    data: Any,
    said: str,
) -> None:
    if data is not None:
        (tmp_path / "f.yaml").write_bytes(data)
    monkeypatch.setattr(command.sys, "argv", ["cardimage", "personalise", f"{image}", "--config", f"{tmp_path}/f.yaml"])
    assert command.main() == 1
    shown = capsys.readouterr().err
    assert said in shown and f"{tmp_path}/f.yaml" in shown and SECRET.decode() not in shown


def test_an_empty_file_of_a_token_is_no_card_without_one(
    image: Path, personalise: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (image.parent / "token").write_text("\n")
    assert personalise(image) == 1 and "token: there is nothing in its first line" in capsys.readouterr().err
    assert fat.get(image, fat.CONFIG) is None


@pytest.mark.parametrize("file", ["kubeedge.yaml", "cmdline.txt"])
def test_what_is_no_image_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    monkeypatch.setattr(command.shutil, "which", lambda program: program)
    (tmp_path / "text").write_text("no image" * 200)
    for name, said in (("text", "is it an image of ours, uncompressed?"), ("none", "none: No such file")):
        monkeypatch.setattr(command.sys, "argv", ["cardimage", "read", f"{tmp_path}/{name}", file])
        assert command.main() == 1 and said in capsys.readouterr().err


@pytest.mark.parametrize("text", ["- 1", "text", "network: [1]"])
def test_what_is_no_configuration_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "f.yaml").write_text(text)
    monkeypatch.setattr(command.shutil, "which", lambda program: program)
    arguments = ["cardimage", "personalise", "x.img", "--config", f"{tmp_path}/f.yaml", "--address", "10.0.0.7/24"]
    monkeypatch.setattr(command.sys, "argv", arguments)
    assert command.main() == 1 and "fields are expected" in capsys.readouterr().err


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Of a card that has a boot partition, and nothing else."""
    start, size = 8192, 33 << 20
    fat.make(tmp_path / "fat", size, {"kubeedge.yaml.example": b"x"}, 0, 1)
    path = tmp_path / "x.img"
    with path.open("wb") as file:
        file.write(mbr.table([mbr.Partition(mbr.FAT, start, size // 512)], 1))
        file.seek(start * 512)
        file.write((tmp_path / "fat").read_bytes())
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    return path


@pytest.fixture
def personalise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(*options: object) -> int:
        words = ["cardimage", "personalise", *map(str, options), "--name", "cam7", "--cloud", "c"]
        monkeypatch.setattr(command.sys, "argv", [*words, "--token-file", f"{tmp_path}/token"])
        return command.main()

    return run


def test_an_image_with_a_token_in_it_is_its_owner_s(image: Path, personalise: Callable[..., int]) -> None:
    packed, own = image.with_suffix(".img.xz"), image.with_name("own.img")
    packed.write_bytes(lzma.compress(image.read_bytes(), preset=0))
    own.touch(0o644)
    for source in (image, packed):
        assert personalise(source, "--output", own) == 0
        assert stat.S_IMODE(own.stat().st_mode) == 0o600 and SECRET in (fat.get(own, fat.CONFIG) or b"")
    assert fat.get(image, fat.CONFIG) is None
    assert personalise(image) == 0 and SECRET in (fat.get(image, fat.CONFIG) or b"")


def test_an_image_that_is_damaged_is_said_and_leaves_no_half_of_one(
    image: Path, personalise: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, packed, own = image.read_bytes(), image.with_suffix(".img.xz"), image.with_name("own.img")
    for data in (lzma.compress(whole, preset=0)[:-64], b"no archive", b""):
        packed.write_bytes(data)
        assert personalise(packed, "--output", own) == 1 and not own.exists()
        assert f"{packed} is damaged" in capsys.readouterr().err
    packed.write_bytes(lzma.compress(bytes(4096)))
    assert personalise(packed, "--output", own) == 1 and not own.exists()
    (image.parent / "token").write_text("t" * 2000)
    assert personalise(image, "--output", own) == 1 and not own.exists()
    (image.parent / "token").write_text(TOKEN)

    def full(*arguments: object) -> None:
        raise subprocess.CalledProcessError(1, "mcopy")

    monkeypatch.setattr(fat, "put", full)
    assert personalise(image, "--output", own) == 1 and not own.exists() and image.read_bytes() == whole


def test_an_image_is_not_copied_over_itself(
    image: Path, personalise: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = image.with_suffix(".img.xz")
    packed.write_bytes(lzma.compress(image.read_bytes(), preset=0))
    before = packed.read_bytes()
    monkeypatch.chdir(image.parent)
    assert personalise(packed.name, "--output", packed) == 1 and packed.read_bytes() == before
    assert personalise(image.name, "--output", image) == 0 and SECRET in (fat.get(image, fat.CONFIG) or b"")
