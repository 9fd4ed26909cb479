"""`make image BOARD=tiny`: an image for a card, in dist/images; and images that know who they are.

    python -m cardimage build --board tiny [--debs dist/deb/trixie-arm64] [--output dist/images]
    python -m cardimage personalise IMAGE --config kubeedge.yaml [--output OTHER]
    python -m cardimage personalise IMAGE --name cam7 --cloud HOST --token-file FILE [--output OTHER]
    python -m cardimage read IMAGE kubeedge-status.txt

None of them needs root, a loop device or emulation. IMAGE may be compressed (.xz); OTHER is not. The same commit, the same packages of Debian: the same
bytes.
"""

from __future__ import annotations

import argparse
import lzma
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from cardimage import fat, image
from cardimage.boards import BOARDS, Board
from cardimage.packages import Packages
from cross.wheels.tools import CACHE, HERE, Tools
from kubeedge_card import config

_PROGRAMS = {
    "mcopy": "mtools",
    "mkfs.fat": "dosfstools",
    "mksquashfs": "squashfs-tools",
    "depmod": "kmod",
    "strings": "binutils",
    "dpkg-deb": "dpkg",
}


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(
        prog="make image", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser("build")
    building.add_argument("--board", choices=sorted(BOARDS), required=True)
    building.add_argument("--debs", type=Path, help="our packages (default: `make deb` makes them)")
    building.add_argument("--output", type=Path, default=HERE / "dist" / "images")
    person = commands.add_parser("personalise")
    person.add_argument("image", type=Path)
    person.add_argument("--config", type=Path, help="a whole kubeedge.yaml; the other options replace its fields")
    person.add_argument("--name")
    person.add_argument("--cloud")
    person.add_argument("--token-file", type=Path)
    person.add_argument("--output", type=Path, help="a copy (default: the image itself)")
    reading = commands.add_parser("read")
    reading.add_argument("image", type=Path)
    reading.add_argument("file", help="of the boot partition; it goes to standard output")
    options = parser.parse_args()
    needed = _PROGRAMS if options.command == "build" else {"mcopy": "mtools"}
    if lacking := sorted(package for program, package in needed.items() if not shutil.which(program)):
        print(f"missing: apt-get install {' '.join(lacking)}", file=sys.stderr)
        return 2
    return {"build": _build, "personalise": _personalise, "read": _read}[options.command](options)


def _build(options: argparse.Namespace) -> int:
    board = BOARDS[options.board]
    packages = Packages(board.debian, CACHE)
    debs = options.debs or _our_packages(board)
    own = [p for p in sorted(debs.glob("kubeedge*.deb")) if not p.name.startswith("kubeedge-cloud")]
    if len(own) != 2:
        print(f"{debs} has not our two packages", file=sys.stderr)
        return 2
    work = HERE / "build" / "images" / board.name
    made = image.build(board, packages, own, work, options.output.resolve(), Tools().epoch)
    print(f"{made}: {made.stat().st_size / 1e6:.1f} MB")
    return 0


def _our_packages(board: Board) -> Path:
    command = [sys.executable, "-m", "cross.deb", "--target", board.machine, "--python", "3.13"]
    subprocess.run([*command, "--output", str(HERE / "build" / "images" / "deb")], check=True, cwd=HERE)
    return HERE / "build" / "images" / "deb" / f"trixie-{board.debian}"


def _personalise(options: argparse.Namespace) -> int:
    fields = yaml.safe_load(options.config.read_text()) if options.config else {}
    given = {"name": options.name, "cloud": options.cloud}
    if options.token_file:
        given["token"] = options.token_file.read_text().strip()
    text = yaml.safe_dump({**fields, **{name: value for name, value in given.items() if value}}, sort_keys=False)
    try:
        config.parse(yaml.safe_load(text))
        target = options.output or options.image
        _copy(options.image, target)
        fat.put(target, fat.CONFIG, text.encode(), Tools().epoch)
    except ValueError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


def _read(options: argparse.Namespace) -> int:
    data = fat.get(options.image, options.file)
    if data is None:
        print(f"{options.image} has no {options.file}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(data)
    return 0


def _copy(source: Path, target: Path) -> None:
    if source.suffix == ".xz":
        if source == target:
            raise ValueError("--output is needed: a compressed image is not changed where it is")
        with lzma.open(source) as packed, target.open("wb") as out:
            shutil.copyfileobj(packed, out, 1 << 20)
    elif source != target:
        shutil.copyfile(source, target)


if __name__ == "__main__":
    sys.exit(main())
