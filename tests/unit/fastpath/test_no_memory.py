"""L4 connections that change hands when memory is out, in C under the sanitizers."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.fuzz.targets import FASTPATH, SANITIZERS


def test_a_connection_that_cannot_be_handed_over_is_reset(tmp_path: Path) -> None:
    program = tmp_path / "no_memory"
    subprocess.run(
        ["gcc", "-fsanitize=address,undefined", "-std=gnu11", "-Wall", *SANITIZERS, "-Wl,--wrap=calloc", f"-I{FASTPATH}",
         str(Path(__file__).with_name("no_memory.c")),
         *(str(path) for path in sorted((FASTPATH / "l4").glob("*.c")) if path.stem != "in_plane"), "-o", str(program)],
        check=True,
    )  # fmt: skip
    done = subprocess.run([str(program)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr[-2000:]
