"""`make image BOARD=tiny`: an image for a card, in dist/images; and images that know who they are.

    python -m cardimage build --board tiny [--debs dist/deb/trixie-arm64] [--output dist/images] [--update-key FILE] [--trust FILE]
    python -m cardimage personalise IMAGE --config kubeedge.yaml [--output OTHER]
    python -m cardimage personalise IMAGE --name cam7 --cloud HOST --token-file FILE [--output OTHER]
        [--wifi SSID --wifi-password-file FILE --country DE] [--ssh-key-file FILE] [--address 192.168.1.7/24 --gateway 192.168.1.1]
    python -m cardimage personalise IMAGE --cloud HOST --join-key-file FILE [--output OTHER]
    python -m cardimage read IMAGE kubeedge-status.txt

None of them needs root, a loop device or emulation. IMAGE may be compressed (.xz); OTHER is not. The same commit, the same packages of Debian: the same
bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import lzma
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cardimage import fat, first_start, image, signing, slot_image
from cardimage.boards import BOARDS, Board
from cardimage.packages import Packages
from cross.wheels.tools import CACHE, HERE, Tools
from kubeedge_card import config, document

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
        prog="python -m cardimage", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser("build")
    building.add_argument("--board", choices=sorted(BOARDS), required=True)
    building.add_argument("--debs", type=Path, help="our packages (default: `make deb` makes them)")
    building.add_argument("--output", type=Path, default=HERE / "dist" / "images")
    building.add_argument(
        "--update-key", type=Path, default=signing.DEFAULT, help="signs the bundle; made if there is none"
    )
    building.add_argument("--trust", type=Path, action="append", default=[], help="a further public key for updates")
    building.add_argument("--quick", action="store_true", help="compress less: for tests")
    person = commands.add_parser("personalise")
    person.add_argument("image", type=Path)
    person.add_argument("--config", type=Path, help="a whole kubeedge.yaml; the other options replace its fields")
    person.add_argument("--name")
    person.add_argument("--cloud")
    person.add_argument("--token-file", type=Path)
    person.add_argument("--join-key-file", type=Path, help="in place of name and token: for a card in many copies")
    person.add_argument("--wifi", metavar="SSID")
    person.add_argument("--wifi-password-file", type=Path)
    person.add_argument("--country", help="the country whose radio regulations apply, such as DE")
    person.add_argument("--ssh-key-file", type=Path, help="public keys, each of which may log in as root")
    person.add_argument("--address", help="a static address with its prefix length, such as 192.168.1.7/24")
    person.add_argument("--gateway")
    person.add_argument("--output", type=Path, help="a copy (default: the image itself)")
    reading = commands.add_parser("read")
    reading.add_argument("image", type=Path)
    reading.add_argument("file", help="a file of the boot partition, or vmlinuz, initrd.img, cmdline.txt of its slot")
    options = parser.parse_args()
    needed = _PROGRAMS if options.command == "build" else {"mcopy": "mtools"}
    if lacking := sorted(package for program, package in needed.items() if not shutil.which(program)):
        print(f"missing: apt-get install {' '.join(lacking)}", file=sys.stderr)
        return 2
    return {"build": _build, "personalise": _personalise, "read": _read}[options.command](options)


def _build(options: argparse.Namespace) -> int:
    board = BOARDS[options.board]
    packages = Packages(board.debian, CACHE, board.kernel_suite)
    debs = options.debs or _our_packages(board)
    own = [p for p in sorted(debs.glob("kubeedge*.deb")) if not p.name.startswith("kubeedge-cloud")]
    if len(own) != 2:
        print(f"{debs} has not our two packages", file=sys.stderr)
        return 2
    work = HERE / "build" / "images" / board.name
    key, trusted = signing.UpdateKey(options.update_key), [signing.public(path) for path in options.trust]
    output, level = options.output.resolve(), 1 if options.quick else 19
    made = image.build(board, packages, own, work, output, Tools().epoch, key, trusted, level)
    print(f"{made}: {made.stat().st_size / 1e6:.1f} MB")
    return 0


def _our_packages(board: Board) -> Path:
    command = [sys.executable, "-m", "cross.deb", "--target", board.machine, "--python", "3.13"]
    subprocess.run([*command, "--output", str(HERE / "build" / "images" / "deb")], check=True, cwd=HERE)
    return HERE / "build" / "images" / "deb" / f"trixie-{board.debian}"


def _personalise(options: argparse.Namespace) -> int:
    try:
        fields = _wanted(options)
        first_start.check(fields)
        data = yaml.safe_dump(fields, sort_keys=False).encode()
        if len(data) > config.MAX_BYTES:
            raise ValueError(f"the configuration has {len(data)} bytes; a machine reads {config.MAX_BYTES}")
        with _target(options.image, options.output) as target:
            fat.put(target, fat.CONFIG, data, Tools().epoch)
    except (ValueError, OSError, subprocess.CalledProcessError) as exc:
        return _failed(exc)
    return 0


def _failed(exc: Exception) -> int:
    of_file = isinstance(exc, OSError) and exc.filename
    print(f"{exc.filename}: {exc.strerror}" if of_file else exc, file=sys.stderr)  # type: ignore[attr-defined]
    return 1


def _wanted(options: argparse.Namespace) -> dict[str, Any]:
    """What the options say over what the file says."""
    fields = (
        _mapping(document.load(str(options.config), _text(options.config)), str(options.config))
        if options.config
        else {}
    )
    wifi = {"ssid": options.wifi, "password": _first_line(options.wifi_password_file), "country": options.country}
    network = {"address": options.address, "gateway": options.gateway, "wifi": _given(wifi)}
    keys = _text(options.ssh_key_file).splitlines() if options.ssh_key_file else []
    given = {
        "name": options.name,
        "cloud": options.cloud,
        "token": _first_line(options.token_file).strip(),
        "joinKey": _first_line(options.join_key_file).strip(),
        "sshKeys": [key for key in keys if key.strip() and not key.startswith("#")],
    }
    if network := _given(network):
        given["network"] = {**_mapping(fields.get("network") or {}, "network"), **network}
    return {**fields, **_given(given)}


def _mapping(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: fields are expected here, as `name: value`")
    return value


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _first_line(file: Path | None) -> str:
    """ "" for no file. Raises ValueError where there is one and nothing in it, as after a command that failed."""
    if not file:
        return ""
    if line := _text(file).partition("\n")[0].rstrip("\r"):
        return line
    raise ValueError(f"{file}: there is nothing in its first line")


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ValueError(f"{file} is no text in UTF-8: {exc.reason} at byte {exc.start}") from exc


def _read(options: argparse.Namespace) -> int:
    try:
        if options.file in slot_image.PARTS:
            data: bytes | None = slot_image.part(options.image, options.file)
        else:
            data = fat.get(options.image, options.file)
    except (ValueError, OSError) as exc:
        return _failed(exc)
    if data is None:
        print(f"{options.image} has no {options.file}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(data)
    return 0


@contextlib.contextmanager
def _target(source: Path, output: Path | None) -> Iterator[Path]:
    """The image that is changed: a copy at `output`, which only its owner reads, for it has a token in it, and which is gone where that fails."""
    packed, target = source.suffix == ".xz", output or source
    if target.exists() and target.samefile(source):
        if packed:
            raise ValueError("--output is needed: a compressed image is not changed where it is")
        yield target
        return
    with lzma.open(source) if packed else source.open("rb") as data:
        copy = open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
        unfinished = target.is_file()  # a card in a reader is none
        try:
            with copy:
                if unfinished:
                    target.chmod(0o600)
                shutil.copyfileobj(data, copy, 1 << 20)
            yield target
            unfinished = False
        except (EOFError, lzma.LZMAError) as exc:
            raise ValueError(f"{source} is damaged: {exc}") from exc
        finally:
            if unfinished:
                target.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
