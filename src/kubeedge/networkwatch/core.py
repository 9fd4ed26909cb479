"""Which messages of rtnetlink(7) mean that this machine's way to the cloud may have changed. Pure."""

from __future__ import annotations

import enum
import struct


class NetlinkType(enum.IntEnum):
    """nlmsg_type, as <linux/rtnetlink.h> has it."""

    NEWLINK = 16
    DELLINK = 17
    NEWADDR = 20
    DELADDR = 21
    NEWROUTE = 24
    DELROUTE = 25


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
            case NetlinkType.NEWADDR | NetlinkType.DELADDR | NetlinkType.DELLINK:
                return True
            case NetlinkType.NEWLINK if length >= _HEADER.size + _LINK.size:  # also for statistics and Wi-Fi events
                _, _, _, _, change = _LINK.unpack_from(datagram, body)
                if change & (_IFF_UP | _IFF_RUNNING):
                    return True
            case NetlinkType.NEWROUTE | NetlinkType.DELROUTE if length >= _HEADER.size + _ROUTE.size:
                if _ROUTE.unpack_from(datagram, body)[4] != _LOCAL_TABLE:
                    return True
        at += (length + 3) & ~3
    return False
