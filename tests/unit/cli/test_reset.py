"""`kubeedge reset` where the state directory is a partition of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kubeedge.cli.join import STATE_MARK
from kubeedge.cli.main import main as kubeedge

pytestmark = pytest.mark.root


def test_a_state_on_a_partition_of_its_own_is_emptied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "var/lib/kubeedge/edge"
    state.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(state)], check=True)
    try:
        (state / STATE_MARK).touch()
        (state / "pods").mkdir()
        assert kubeedge(["reset", "--force", "--root-dir", str(tmp_path)]) == 0
        assert f"removed {state}" in capsys.readouterr().out and list(state.iterdir()) == []
        assert kubeedge(["reset", "--force", "--root-dir", str(tmp_path)]) == 0
        assert capsys.readouterr().out == "there was nothing to remove\n"
    finally:
        subprocess.run(["umount", str(state)], check=True)
