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
