"""The agent's lines go to a serial console, which may be slow, or stopped by whatever it receives."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys

#: what the card's process does before it becomes the agent, and what an agent with much to say does then
AGENT = """
import logging, sys
from kubeedge.kit import logs
from kubeedge_card import __main__ as start
if sys.argv[1] == "card":
    start._never_wait_for_console()
logs.setup()
for n in range(2_000):
    logging.getLogger("kubeedge.mqtt").warning("refused %s", "x" * 200)
print("ended", file=open(int(sys.argv[2]), "w"))
"""


def ends(how: str, *, stopped: bool, patience: float) -> bool:
    """Whether it gets there though nobody reads the console, which XOFF has stopped before."""
    console, line = pty.openpty()
    end, said = os.pipe()
    if stopped:
        os.write(console, b"\x13")
    process = subprocess.Popen(
        [sys.executable, "-c", AGENT, how, str(said)],
        stdin=subprocess.DEVNULL, stdout=line, stderr=line, pass_fds=[said], env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    try:
        os.close(said)
        ready, _, _ = select.select([end], [], [], patience)
        return bool(ready) and os.read(end, 16) == b"ended\n"
    finally:
        process.kill()
        process.wait()
        for descriptor in (console, line, end):
            os.close(descriptor)


def test_an_agent_does_not_wait_for_its_console() -> None:
    assert ends("card", stopped=False, patience=60)
    assert ends("card", stopped=True, patience=60)


def test_an_agent_elsewhere_would() -> None:
    """That the line of this test is one that stops whoever waits for it."""
    assert not ends("elsewhere", stopped=True, patience=5)
