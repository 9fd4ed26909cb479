"""`kubeedge init`: the configuration of a cloud, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeedge.cli import init, parser
from kubeedge.cli.errors import CommandError, UsageError
from kubeedge.config import cloud


def run(path: Path, *arguments: str) -> int:
    return init.run(parser.parser("kubeedge").parse_args(["init", "--config", str(path), "--no-start", *arguments]))


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)


def test_a_configuration_with_the_addresses_that_were_given(tmp_path, capsys):
    path = tmp_path / "etc/cloud.yaml"
    assert run(path, "--advertise", "cloud.example.org", "--advertise", "203.0.113.1,2001:db8::1") == 0
    assert cloud.load(path).advertise == ("cloud.example.org", "203.0.113.1", "2001:db8::1")
    assert path.stat().st_mode & 0o777 == 0o600
    said = capsys.readouterr().err
    assert f"kubeedge cloud --config {path}" in said and "KUBECONFIG=/var/lib/kubeedge/cloud/kubeconfig-default" in said


def test_a_configuration_that_is_there_stays(tmp_path):
    path = tmp_path / "cloud.yaml"
    path.write_text("kind: CloudCore\nadvertise: [a.example.org]\nnodeGrace: 20\n")
    before = path.read_text()
    assert run(path) == 0 and run(path, "--advertise", "a.example.org") == 0
    with pytest.raises(CommandError, match=r"does not advertise b\.example\.org"):
        run(path, "--advertise", "b.example.org")
    assert path.read_text() == before


@pytest.mark.parametrize("arguments", [(), ("--advertise", "no host"), ("--advertise", "http://a/")])
def test_an_address_is_needed_and_has_a_form(tmp_path, arguments):
    with pytest.raises(UsageError):
        run(tmp_path / "cloud.yaml", *arguments)
    assert not (tmp_path / "cloud.yaml").exists()


def test_only_root(tmp_path, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(CommandError, match="root"):
        run(tmp_path / "cloud.yaml", "--advertise", "a")


def test_keadm_has_it_too():
    options = parser.parser("keadm").parse_args(["init", "--advertise-address", "203.0.113.1"])
    assert options.advertise == ["203.0.113.1"]
