"""`make wheels`: the agent and all that it depends on, as wheels for ARM and x86-64, in dist/wheels; the source distribution beside them.

    python -m cross.wheels [--target armv7l] [--python 3.11] [--try] [--output DIRECTORY]

Nothing is emulated while building: zig compiles for each processor, against the headers of its Debian packages. The same commit makes the
same bytes. --try installs the result in a fresh Debian root of that processor, where it is emulated, and needs root.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from cross.wheels import archive, compile, root, wheelhouse
from cross.wheels.targets import PYTHONS, TARGETS
from cross.wheels.tools import BUILD, HERE, Tools, source


def build(tools: Tools, targets: list[str], pythons: list[str], work: Path, output: Path) -> None:
    """Fills `output`/MACHINE-PYTHON, and writes the source distribution and SHA256SUMS there."""
    for directory in (work, output):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
    prepared = compile.prepare(tools, source(work / "kubeedge"), work / "pure")
    for machine in targets:
        for version in pythons:
            target, python = TARGETS[machine], PYTHONS[version]
            directory = output / f"{machine}-{python.tag}"
            wheel = compile.wheel(tools, prepared, target, python, directory)
            wheelhouse.fill(tools, target, python, directory, work)
            print(f"{directory.name}: {wheel.name}, {wheel.stat().st_size / 1e6:.2f} MB", flush=True)
    _source_distribution(tools, work, output)
    (output / "SHA256SUMS").write_text(archive.sums(output))


def _source_distribution(tools: Tools, work: Path, output: Path) -> None:
    tree = source(work / "sdist")
    tools.python("setup.py", "-q", "sdist", "--dist-dir", str(work), cwd=tree)
    (packed,) = work.glob("*.tar.gz")
    (output / packed.name).write_bytes(archive.normalised(packed.read_bytes(), tools.epoch))


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="make wheels", description=__doc__)
    parser.add_argument("--target", action="append", choices=sorted(TARGETS))
    parser.add_argument("--python", action="append", choices=sorted(PYTHONS))
    parser.add_argument("--output", type=Path, default=HERE / "dist" / "wheels")
    parser.add_argument("--try", action="store_true", dest="tried", help="in fresh roots, without a network")
    options = parser.parse_args()
    targets, pythons = options.target or list(TARGETS), options.python or list(PYTHONS)
    if options.tried and os.geteuid() != 0:
        print("--try needs root: it makes Debian roots and enters them", file=sys.stderr)
        return 2
    tools = Tools()
    build(tools, targets, pythons, BUILD / "work", options.output.resolve())
    for machine in targets if options.tried else ():
        for version in pythons:
            target, python = TARGETS[machine], PYTHONS[version]
            directory = options.output.resolve() / f"{machine}-{python.tag}"
            for line in root.try_there(tools, target, python, directory, BUILD / f"root-{directory.name}"):
                print(f"{directory.name}: {line}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
