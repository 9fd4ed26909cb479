"""`make dev` compiles what has changed, and nothing else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.kit.dev_build import build_object


def test_an_object_is_compiled_again_when_a_file_or_a_flag_changes_and_else_not(tmp_path: Path) -> None:
    extension = SimpleNamespace(extra_compile_args=["-O0"], include_dirs=[str(tmp_path)])
    (tmp_path / "own.h").write_text("#define ANSWER 42\n")
    source, target = tmp_path / "own.c", tmp_path / "objects" / "own.o"
    source.write_text('#include "own.h"\nint answer(void) { return ANSWER; }\n')
    assert build_object(source, target, extension)
    assert not build_object(source, target, extension)
    for changed in (tmp_path / "own.h", source):
        later = target.stat().st_mtime_ns + 1
        os.utime(changed, ns=(later, later))
        assert build_object(source, target, extension), changed
        os.utime(changed, ns=(0, 0))
        assert not build_object(source, target, extension), changed
    extension.extra_compile_args = ["-O1"]
    assert build_object(source, target, extension)
    source.write_text("no C at all\n")
    for _ in range(2):  # a file that does not compile is tried again, and leaves no old object behind
        with pytest.raises(subprocess.CalledProcessError):
            build_object(source, target, extension)
        assert not target.exists()
