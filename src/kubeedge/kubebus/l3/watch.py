"""Tells when this machine's way to the cloud may have changed: an address, a route or a link came or went (rtnetlink(7)).

A raw netlink socket and 32 bytes of parsing: the agent listens for its whole life, and pyroute2 would cost it megabytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import AsyncIterator

_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE
_NEWLINK, _DELLINK, _NEWADDR, _DELADDR, _NEWROUTE, _DELROUTE = 16, 17, 20, 21, 24, 25
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_LOCAL_TABLE = 255  # routes of our own addresses: the address says it already

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_ROUTE = struct.Struct("=BBBBBBBB")  # struct rtmsg: ..., the fifth byte is the table


def is_change(datagram: bytes) -> bool:
    """Does one of these netlink messages speak of an address, a route, or a link that went up or down?"""
    at = 0
    while at + _HEADER.size <= len(datagram):
        length, kind, *_ = _HEADER.unpack_from(datagram, at)
        if length < _HEADER.size or at + length > len(datagram):
            return True  # not understood: better to look once too often
        body = at + _HEADER.size
        match kind:
            case 20 | 21 | 17:  # _NEWADDR, _DELADDR, _DELLINK
                return True
            case 16 if length >= _HEADER.size + _LINK.size:  # _NEWLINK: also for statistics and Wi-Fi events
                _, _, _, _, change = _LINK.unpack_from(datagram, body)
                if change & (_IFF_UP | _IFF_RUNNING):
                    return True
            case 24 | 25 if length >= _HEADER.size + _ROUTE.size:  # _NEWROUTE, _DELROUTE
                if _ROUTE.unpack_from(datagram, body)[4] != _LOCAL_TABLE:
                    return True
        at += (length + 3) & ~3
    return False


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
