"""This machine's clock, by the first time server that answers: `python -m kubeedge_card.time_servers SERVER...`, whose exit status says whether one has.

Where none does when the machine starts, a process goes on asking until one does: the network may come later than the machine, as a router does after
a loss of power, and a clock that stands where the image was made takes the cloud's certificates for ones that are not valid yet. While it waits that
process is a shell.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from kubeedge_card import sntp

_EPOCH = Path("/etc/card-epoch")  # when the image was made, in seconds since 1970
_PID = Path("/run/card-clock.pid")
_PEERS = ("0.debian.pool.ntp.org", "1.debian.pool.ntp.org")
_PATIENCE = 3.0  # seconds for one time server
_STEP = 2.0  # seconds; a clock that is nearer is left alone
_FIRST_PAUSE, _LONGEST_PAUSE = 15, 1920  # seconds between two questions
#: the file for its number, the first pause, the longest one, and what is asked
_WAITING = """
echo $$ >"$0"
pause=$1 longest=$2
shift 2
while sleep "$pause"; do
    "$@" && exit
    [ "$pause" -ge "$longest" ] || pause=$((pause * 2))
done
"""


def set_clock(servers: Sequence[str]) -> bool:
    """Whether a server has answered. Without one the clock stays."""
    earliest = int(_EPOCH.read_text())
    for server in servers or _PEERS:
        with contextlib.suppress(OSError, UnicodeError):  # the second: no name that could be looked up
            now = _ask(server, earliest)
            if now is not None:
                if abs(now - time.time()) > _STEP:
                    time.clock_settime(time.CLOCK_REALTIME, now)
                return True
    return False


def go_on(servers: Sequence[str]) -> None:
    """A process asks until a server answers; there is one at most."""
    if _waits():
        return
    question = [sys.executable, "-OO", "-m", "kubeedge_card.time_servers", *servers]
    waiting = ["sh", "-c", _WAITING, str(_PID), str(_FIRST_PAUSE), str(_LONGEST_PAUSE), *question]
    # a child of init: this process becomes the agent, which does not ask for its end
    subprocess.run(["sh", "-c", '"$@" &', "sh", *waiting], start_new_session=True)


def _waits() -> bool:
    try:
        # that process may have ended, and its number be another's
        return b"kubeedge_card.time_servers" in Path("/proc", str(int(_PID.read_text())), "cmdline").read_bytes()
    except (OSError, ValueError):
        return False


def _ask(server: str, earliest: int) -> float | None:
    nonce = secrets.randbits(64)
    family, kind, protocol, _, address = socket.getaddrinfo(server, sntp.PORT, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as channel:
        channel.settimeout(_PATIENCE)
        channel.connect(address)
        channel.send(sntp.request(nonce))
        return sntp.answer(channel.recv(512), nonce, earliest)


if __name__ == "__main__":
    sys.exit(0 if set_clock(sys.argv[1:]) else 1)
