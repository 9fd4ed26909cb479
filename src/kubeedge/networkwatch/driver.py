"""Listens to rtnetlink(7) for changes of addresses, routes and links (core.py).

A raw netlink socket: the agent listens for its whole life, and pyroute2 would cost it megabytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator

from kubeedge.networkwatch.core import is_change

_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE


async def address_changes(*, settle: float = 0.3) -> AsyncIterator[None]:
    """Yields after each burst of changes, `settle` seconds after its first one: DHCP needs several messages for one change.

    Close it (`aclosing`) to give the socket back. Raises OSError where the kernel has no netlink.
    """
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as netlink:
        netlink.setblocking(False)
        netlink.bind((0, _GROUPS))
        while True:
            try:
                changed = is_change(await loop.sock_recv(netlink, 65_536))
            except OSError as exc:
                if exc.errno != errno.ENOBUFS:  # more happened than the socket could hold: that is a change
                    raise
                changed = True
            if not changed:
                continue
            await asyncio.sleep(settle)
            with contextlib.suppress(BlockingIOError):
                while True:
                    try:
                        netlink.recv(65_536)
                    except OSError as exc:
                        if exc.errno != errno.ENOBUFS:
                            raise
            yield
