"""`make deb`: Debian packages for amd64, arm64 and armhf, for Debian 12 and 13, in dist/deb/SUITE-ARCHITECTURE.

    python -m cross.deb [--target armv7l] [--python 3.11] [--revision 1] [--wheels dist/wheels] [--output dist/deb]

They are made of the wheels of `make wheels`, which are built first where they are missing. Nothing is emulated, and nothing needs root. The same
commit makes the same bytes.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import kubeedge
from cross.deb import contents
from cross.wheels import archive, compile
from cross.wheels.__main__ import build as build_wheels
from cross.wheels.targets import PYTHONS, TARGETS
from cross.wheels.tools import BUILD, HERE, Tools, source


def build(
    tools: Tools, targets: list[str], pythons: list[str], revision: str, wheels: Path, output: Path
) -> list[Path]:
    """The packages, below `output`/SUITE-ARCHITECTURE, with SHA256SUMS beside those directories."""
    version = contents.Version(kubeedge.__version__, revision, tools.epoch)
    made = []
    with tempfile.TemporaryDirectory(prefix="kubeedge-deb-") as temporary:
        work = Path(temporary)
        cloud = compile.prepare(tools, source(work / "source") / "cloud", work / "cloud").wheel
        for machine in targets:
            for name in pythons:
                target, python = TARGETS[machine], PYTHONS[name]
                directory = output / f"{python.suite}-{target.debian}"
                shutil.rmtree(directory, ignore_errors=True)
                wheelhouse = wheels / f"{machine}-{python.tag}"
                for package in contents.packages(target, python, version, wheelhouse, cloud):
                    stage = work / directory.name / package.fields["Package"]
                    stage.mkdir(parents=True)
                    made.append(package.write(directory, stage, tools.epoch))
                    print(f"{directory.name}: {made[-1].name}, {made[-1].stat().st_size / 1e6:.2f} MB", flush=True)
    (output / "SHA256SUMS").write_text(archive.sums(output))
    return made


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="make deb", description=__doc__)
    parser.add_argument("--target", action="append", choices=sorted(TARGETS))
    parser.add_argument("--python", action="append", choices=sorted(PYTHONS))
    parser.add_argument("--revision", default="1", help="of the packaging (default: 1)")
    parser.add_argument("--wheels", type=Path, help="those of `make wheels` (default: built for this)")
    parser.add_argument("--output", type=Path, default=HERE / "dist" / "deb")
    options = parser.parse_args()
    targets, pythons = options.target or list(TARGETS), options.python or list(PYTHONS)
    tools = Tools()
    wheels = options.wheels
    if wheels is None:
        wheels = BUILD / "for-deb"
        build_wheels(tools, targets, pythons, BUILD / "work", wheels)
    build(tools, targets, pythons, options.revision, wheels.resolve(), options.output.resolve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
