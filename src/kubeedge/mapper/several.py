"""Several mappers in one process: on a small machine each process of Python is 10 MB.

They share a loop and nothing else: each has its own connection to the broker, and devices of one do not wait for those of another. One that
fails ends the process, whose supervisor starts it again; what a device does is no failure (driver.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from kubeedge.kit.tasks import until_one_ends
from kubeedge.mapper.broker import NodeBroker
from kubeedge.mapper.foreground import run_until_told
from kubeedge.mapper.mapper import Mapper


def run(mappers: Sequence[Mapper], broker: NodeBroker, *, until_stdin_ends: bool = False) -> None:
    """As Mapper.run; with `until_stdin_ends` also until whoever started it is gone, who has the other end of the pipe."""
    run_until_told(
        lambda: until_one_ends(*(mapper.serve(broker) for mapper in mappers)), until_stdin_ends=until_stdin_ends
    )
