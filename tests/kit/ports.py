"""An address of loopback for this process, and ports on it that nobody else takes: of 127.0.0.0/8 each process has one by its id.

A port that was free a moment ago may be another suite's by now; these are never the kernel's to give away, and two suites side by side have
different addresses.
"""

from __future__ import annotations

import ipaddress
import itertools
import os

ADDRESS = str(ipaddress.IPv4Address("127.1.0.0") + os.getpid())  # ids have 22 bits
MORE = tuple(str(ipaddress.IPv4Address(net) + os.getpid()) for net in ("127.65.0.0", "127.129.0.0"))  # two more
_ports = itertools.count(20_000)  # below those that the kernel gives to who asks for any


def ports(count: int) -> list[int]:
    """On ADDRESS, each once."""
    return list(itertools.islice(_ports, count))
