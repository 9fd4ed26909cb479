"""An image for one machine: what the options say over what a file says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cardimage import __main__ as command
from kubeedge_card import config


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


def test_a_card_without_a_name_is_no_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command.shutil, "which", lambda program: program)
    monkeypatch.setattr(command.sys, "argv", ["cardimage", "personalise", f"{tmp_path}/x.img", "--cloud", "c"])
    assert command.main() == 1 and "name: missing" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["- 1", "text", "network: [1]"])
def test_what_is_no_configuration_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "f.yaml").write_text(text)
    monkeypatch.setattr(command.shutil, "which", lambda program: program)
    arguments = ["cardimage", "personalise", "x.img", "--config", f"{tmp_path}/f.yaml", "--address", "10.0.0.7/24"]
    monkeypatch.setattr(command.sys, "argv", arguments)
    assert command.main() == 1 and "fields are expected" in capsys.readouterr().err
