"""Every input that a fuzzer found worth keeping, through the C decoders built with gcc's sanitizers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.fuzz.targets import HERE, SANITIZERS, Target, targets


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.name)
def test_no_input_of_the_corpus_breaks_its_decoder(target: Target, tmp_path: Path) -> None:
    program = target.build(
        ["gcc", "-fsanitize=address,undefined", str(HERE / "replay.c")], tmp_path / target.name, *SANITIZERS
    )
    inputs = target.inputs()
    assert len(inputs) >= 10, "a corpus has more than a few inputs"
    done = subprocess.run([str(program), *map(str, inputs)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout == f"{len(inputs)} files\n", done.stderr[-4000:]
