"""`kubeedge board approve|list|forget`: boards that ask with a join key, by their serial numbers."""

from __future__ import annotations

import argparse
import sys
import time
import urllib.parse
from collections.abc import Iterable, Iterator
from typing import Any

from kubeedge.cli.control import call_cloud, of_tenant
from kubeedge.cli.errors import CommandError, UsageError
from kubeedge.cli.show import as_json, table

_MAX_FILE = 1 << 20  # characters


def run(options: argparse.Namespace) -> int:
    """Exit status 0. Raises UsageError, CommandError."""
    base = of_tenant(options.tenant, "boards")
    match options.verb:
        case "approve":
            more = {name: value for name, value in (("key", options.key), ("network", options.network)) if value}
            boards = _boards(options)
            for done, (serial, name) in enumerate(boards):
                try:
                    answer = call_cloud(options.socket, "PUT", _of(base, serial), {"node": name, **more})
                except CommandError as exc:
                    if len(boards) == 1:
                        raise
                    raise _of_many(exc, serial, done) from exc
                print(f"board {serial} is node {answer['node']}")
        case "forget":
            for serial in _forget(options, base):
                print(f"board {serial} is forgotten")
        case _:
            boards = call_cloud(options.socket, "GET", base)["boards"]
            print(as_json(boards) if options.output == "json" else _table(boards))
    return 0


def _boards(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Serial number and name, "" for none, of the arguments and of the list."""
    found = [serial.partition("=")[::2] for serial in options.serials]
    if options.file:
        try:
            if options.file == "-":
                text = sys.stdin.read(_MAX_FILE + 1)
            else:
                with open(options.file, encoding="utf-8") as file:
                    text = file.read(_MAX_FILE + 1)
        except (OSError, UnicodeDecodeError) as exc:
            raise UsageError(f"cannot read the list: {exc}") from exc
        if len(text) > _MAX_FILE:  # a part of it would end within a serial number
            raise UsageError(f"the list is longer than {_MAX_FILE} characters", "approve it in parts")
        found += list(_listed(text.splitlines()))
    if not found:
        raise UsageError("which boards?", "kubeedge board approve SERIAL[=NAME]..., or --file LIST")
    if not all(serial for serial, _ in found):
        raise UsageError("a board without a serial number", "kubeedge board approve SERIAL[=NAME]...")
    if options.key and len(found) != 1:
        raise UsageError("a key is that of one board", "kubeedge board approve SERIAL --key KEY")
    return [(serial, name) for serial, name in found]


def _of_many(exc: CommandError, serial: str, done: int) -> CommandError:
    """It says at which board of a list it ended. What is approved already may be approved again."""
    return CommandError(
        f"board {serial}: {exc}",
        next(iter(getattr(exc, "__notes__", ())), "")
        or f"{done} before it are approved; once it is right, all may be approved again",
    )


def _forget(options: argparse.Namespace, base: str) -> Iterator[str]:
    """The serial numbers of those that are gone."""
    many = options.all or options.prefix or options.state
    if bool(options.serials) == bool(many):
        raise UsageError("which boards?", "kubeedge board forget SERIAL..., --prefix TEXT, --state STATE, or --all")
    if many:
        which = urllib.parse.urlencode({"prefix": options.prefix, "state": options.state})
        yield from call_cloud(options.socket, "DELETE", f"{base}?{which}")["forgotten"]
    for serial in options.serials:
        call_cloud(options.socket, "DELETE", _of(base, serial))
        yield serial


def _listed(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Of a list; columns are set apart by blanks, commas or semicolons, as spreadsheets write them."""
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].replace(",", " ").replace(";", " ").split()
        if len(words) > 2:
            raise UsageError(f"line {number} of the list has more than a serial number and a name")
        if words:
            yield words[0], words[1] if len(words) > 1 else ""


def _of(base: str, serial: str) -> str:
    return f"{base}/{urllib.parse.quote(serial, safe='')}"


def _table(boards: list[dict[str, Any]]) -> str:
    """A board that two machines ask for has two rows, with the key of each."""
    rows = []
    for board in boards:
        for asked in filter(None, (board, board["rival"])):
            at = time.strftime("%Y-%m-%d %H:%M", time.localtime(asked["asked"])) if asked["asked"] else "-"
            rows.append(
                (
                    board["serial"],
                    board["state"],
                    board["node"] or "-",
                    asked["key"][:16] or "-",
                    asked["address"] or board["network"] or "-",
                    at,
                )
            )
    return table(("SERIAL", "STATE", "NODE", "KEY", "FROM", "ASKED"), rows)
