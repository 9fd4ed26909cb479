"""What is written to the boot partition for people without a login: how far the machine has come, or why it has not."""

from __future__ import annotations

import time

NAME = "kubeedge-status.txt"
_MAX = 2000  # characters of a reason
_UPDATE = "update:"


def text(state: str, reason: str, *, name: str, addresses: str, version: str, now: float) -> str:
    """The file's text. `now` is the machine's clock, in seconds since 1970. No secret may be in `reason`."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    lines = [f"state: {state}", f"time: {stamp}", f"name: {name or 'unknown'}", f"addresses: {addresses or 'none'}"]
    lines += [f"kubeedge: {version}", *(["reason:", *_indented(reason)] if reason else [])]
    # Windows' oldest editor, too
    return "\r\n".join(lines) + "\r\n"


def with_update(text: str, reason: str) -> str:
    """The file's text with what became of an update at its end, in place of what was there."""
    before = text.replace("\r\n", "\n").partition(f"\n{_UPDATE}\n")[0].strip("\n")
    return "\r\n".join([*before.split("\n"), _UPDATE, *_indented(reason)]) + "\r\n"


def _indented(reason: str) -> list[str]:
    printable = "".join(c if c.isprintable() or c == "\n" else "?" for c in reason[:_MAX])
    return ["  " + line for line in printable.strip().split("\n")]
