"""Whether the programs that run containers are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeedge.appengine.runtime.programs import Programs


def test_a_program_that_is_missing_is_named_until_one_of_its_kind_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    at_start = Programs(conmon="/nowhere/conmon", runtime="/nowhere/crun", state=tmp_path, version="crun-1")
    assert at_start.missing() == ["conmon", "crun or runc"]
    for name, left in (("conmon", ["crun or runc"]), ("runc", [])):
        (tmp_path / name).touch(0o755)
        assert at_start.missing() == left
    (tmp_path / "conmon").chmod(0o644)
    assert at_start.missing() == ["conmon"], "a file that cannot be run"
