"""Services of systemd: only our own one is removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeedge.cli import service


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(service, "_DIRECTORY", tmp_path)
    monkeypatch.setattr(service, "has_systemd", lambda: False)
    return tmp_path


def test_a_service_of_this_root_directory_is_removed_whichever_python_runs_it(directory):
    words = ["/old/bin/python3", *service.agent_command(Path("/srv/a b"))[1:]]
    service.EDGE.file.write_text(service.unit_text(service.EDGE, words))
    assert service.remove(service.EDGE, service.agent_command(Path("/srv/a b")))
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize(("installed", "reset"), [("/", "/srv/x"), ("/srv/x", "/"), ("/srv/x", "/srv/xx")])
def test_the_service_of_another_root_directory_stays(directory, installed, reset):
    text = service.unit_text(service.EDGE, service.agent_command(Path(installed)))
    service.EDGE.file.write_text(text)
    assert not service.remove(service.EDGE, service.agent_command(Path(reset)))
    assert service.EDGE.file.read_text() == text


def test_nothing_is_there(directory):
    assert not service.remove(service.EDGE, service.agent_command(Path("/")))


@pytest.fixture
def packaged(directory: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Debian's package is installed, and what it runs calls; the command of its agent."""
    units = directory / "packaged"
    units.mkdir()
    monkeypatch.setattr(service, "_PACKAGED", units)
    (units / service.EDGE.name).write_text("of the package")
    return service.packaged_command(service.EDGE)


def test_the_unit_of_a_package_is_used_as_it_is(directory, packaged, monkeypatch):
    said: list[tuple[str, ...]] = []
    monkeypatch.setattr(service, "_systemctl", lambda *arguments: said.append(arguments))
    service.EDGE.file.write_text("of an earlier installation")
    service.install_and_start(service.EDGE, packaged)
    assert not service.EDGE.file.exists()
    assert ("enable", service.EDGE.name) in said and said[-1] == ("restart", service.EDGE.name)


def test_another_python_or_root_directory_has_a_unit_of_its_own(directory, packaged, monkeypatch):
    monkeypatch.setattr(service, "_systemctl", lambda *arguments: None)
    for command in (["/opt/bin/python3", *packaged[1:]], [*packaged, "--root-dir", "/srv/x"]):
        service.install_and_start(service.EDGE, command)
        assert service.EDGE.file.read_text() == service.unit_text(service.EDGE, command)


def test_the_unit_of_a_package_is_stopped_and_stays(directory, packaged, monkeypatch):
    said: list[tuple[str, ...]] = []
    monkeypatch.setattr(service, "_systemctl", lambda *arguments: said.append(arguments))
    monkeypatch.setattr(service, "has_systemd", lambda: True)
    assert service.remove(service.EDGE, packaged)
    assert ("disable", "--now", service.EDGE.name) in said
    assert (service._PACKAGED / service.EDGE.name).read_text() == "of the package"
