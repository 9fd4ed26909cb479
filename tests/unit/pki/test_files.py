"""Files of credentials: whole or not there, with the mode that was asked for."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kubeedge.pki.files import write_secret, write_whole


@pytest.mark.parametrize("mask", [0, 0o022, 0o077, 0o177])
def test_the_mode_is_the_one_that_is_asked_for_whatever_the_umask_is(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "public", b"p")
        write_secret(tmp_path / "secret", b"s")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "public").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["public", "secret"]
