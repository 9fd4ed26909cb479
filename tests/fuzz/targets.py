"""The fuzz targets: each tests/fuzz/NAME.c, with its corpus in tests/fuzz/corpus/NAME. The first line of a target names the files of
src/_fastpath that it needs: `/* sources: packet/packet.c packet/icmp.c`."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
FASTPATH = HERE.parents[1] / "src" / "_fastpath"
SANITIZERS = ("-g", "-O1", "-fno-omit-frame-pointer", "-fno-sanitize-recover=undefined")


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    sources: tuple[Path, ...]

    @property
    def corpus(self) -> Path:
        return HERE / "corpus" / self.name

    def inputs(self) -> list[Path]:
        return sorted(path for path in self.corpus.iterdir() if path.is_file())

    def build(self, compiler: Sequence[str], out: Path, *more: str) -> Path:
        """The target as a program. CalledProcessError when it does not compile."""
        argv = [*compiler, "-std=gnu11", "-Wall", f"-I{FASTPATH}", *more, *map(str, self.sources), "-o", str(out)]
        subprocess.run(argv, check=True)
        return out


def targets() -> list[Target]:
    found = []
    for path in sorted(HERE.glob("*.c")):
        line = path.read_text().split("\n", 1)[0]
        if match := re.match(r"/\* sources:(.*)", line):
            needed = (FASTPATH / name for name in match[1].replace("*/", "").split())
            found.append(Target(path.stem, (path, *needed)))
    return found
