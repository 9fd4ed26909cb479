"""Changes of a real network namespace are noticed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.kit.topology import Topology

pytestmark = pytest.mark.root

LISTEN = """
import asyncio, contextlib
from kubeedge.networkwatch.driver import address_changes
async def main():
    async with contextlib.aclosing(address_changes(settle=1.0)) as changes:  # longer than a burst takes on a busy machine
        first = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        print("ready", flush=True)
        await first
        print("change", flush=True)
        async for _ in changes:
            print("change", flush=True)
asyncio.run(main())
"""


def test_a_burst_of_changes_is_one_change(topology: Topology) -> None:
    host = topology.host("edge")
    host.ip("link", "add", "d0", "type", "veth", "peer", "name", "d1")
    process = subprocess.Popen(host.command(sys.executable, "-c", LISTEN), stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        assert process.stdout.readline() == "ready\n"
        burst = "addr add 10.1.1.1/24 dev d0\nlink set d0 up\nroute add default via 10.1.1.2\n"
        host.run("ip", "-batch", "-", input=burst)
        assert process.stdout.readline() == "change\n"
        for one in (("route", "del", "default"), ("link", "set", "d0", "down")):
            host.ip(*one)
            assert process.stdout.readline() == "change\n"
    finally:
        host.close()
        rest = process.stdout.read()
        process.stdout.close()
        process.wait()
    assert rest == ""
