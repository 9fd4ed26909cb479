"""A CAN interface that is down: its bit rate, and up with it, as `ip link set can0 up type can bitrate 500000` does (rtnetlink(7)). A small machine has no
such program."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct

from kubeedge.errors import PeerError

RESTART = 100  # milliseconds after which a controller that has left the bus, for too many errors, comes back
_NEWLINK, _ERROR = 16, 2
_REQUEST, _ACK = 0x1, 0x4
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_LINKINFO, _KIND, _DATA, _BITTIMING, _RESTART_MS = 18, 1, 2, 1, 6
_TIMING = struct.Struct("=8I")  # can_bittiming: bit rate, and seven that the kernel works out
_FLAGS = struct.Struct("=16sH22x")  # ifreq
_GET_FLAGS, _UP = 0x8913, 0x1
_WAIT = 5.0  # seconds: a controller behind SPI takes a few milliseconds


def is_up(sock: socket.socket, interface: str) -> bool:
    """Raises OSError: there is no such interface."""
    answer = fcntl.ioctl(sock, _GET_FLAGS, _FLAGS.pack(interface.encode(), 0))
    return bool(_FLAGS.unpack(answer)[1] & _UP)


def set_up(interface: str, bitrate: int) -> None:
    """Gives it the bit rate, and sets it up. Raises OSError, which says what was wanted."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as link:
        link.settimeout(_WAIT)
        link.sendto(setting_up(socket.if_nametoindex(interface), bitrate), (0, 0))
        number = answer(link.recv(8192))
    if number:
        why = os.strerror(number)
        if number == errno.EPERM:
            why = "this needs CAP_NET_ADMIN, or somebody else who does it"
        raise OSError(number, f"{interface} cannot be set up with {bitrate} bits a second: {why}")


def setting_up(index: int, bitrate: int) -> bytes:
    """The message, for the interface with that index."""
    data = _attribute(_BITTIMING, _TIMING.pack(bitrate, *[0] * 7)) + _attribute(_RESTART_MS, struct.pack("=I", RESTART))
    info = _attribute(_LINKINFO, _attribute(_KIND, b"can") + _attribute(_DATA, data))
    body = _LINK.pack(socket.AF_UNSPEC, 0, index, _UP, _UP) + info
    return _HEADER.pack(_HEADER.size + len(body), _NEWLINK, _REQUEST | _ACK, 1, 0) + body


def answer(data: bytes) -> int:
    """The kernel's error number; 0: it is done. Raises PeerError for what is no answer."""
    if len(data) < _HEADER.size + 4 or _HEADER.unpack_from(data)[1] != _ERROR:
        raise PeerError("the kernel gives no answer")
    number: int = struct.unpack_from("=i", data, _HEADER.size)[0]
    return -number


def _attribute(kind: int, payload: bytes) -> bytes:
    data = struct.pack("=HH", 4 + len(payload), kind) + payload
    return data + bytes(-len(data) % 4)
