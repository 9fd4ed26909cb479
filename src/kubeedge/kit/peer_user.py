"""Whose program is at the other end of a TCP connection within this machine: the kernel knows (sock_diag(7)).

On loopback an address says nothing of a client: every program may connect from any of 127.0.0.0/8.
"""

from __future__ import annotations

import socket
import struct

_NETLINK_SOCK_DIAG = 4  # <linux/netlink.h>
_BY_FAMILY = 20  # SOCK_DIAG_BY_FAMILY in <linux/sock_diag.h>
_REQUEST = 1  # NLM_F_REQUEST: of one socket, without NLM_F_DUMP
_ESTABLISHED = 1  # <linux/tcp_states.h>
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
#: struct inet_diag_req_v2 of <linux/inet_diag.h>: family, protocol, extensions, padding, states; ports and addresses in network order;
#: interface; a cookie of all ones, since we know none
_QUESTION = struct.Struct("=BBBxI2s2s16s16sIQ")
_ANSWER = struct.Struct("=BBBB48xIIIII")  # struct inet_diag_msg: ..., expires, rqueue, wqueue, uid, inode


def peer_user(connection: socket.socket) -> int | None:
    """The user ID of who has the other end of this TCP connection open, in the namespace of this process; None when it is closed already, is
    not on this machine, or this kernel does not say."""
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        peer, own = connection.getpeername(), connection.getsockname()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as kernel:
            kernel.setblocking(False)  # it answers within send
            kernel.sendto(_asked(connection.family, peer, own), (0, 0))
            answer = kernel.recv(4096)
    except OSError:
        return None
    if len(answer) < _HEADER.size + _ANSWER.size or _HEADER.unpack_from(answer)[1] != _BY_FAMILY:
        return None
    _, state, _, _, _, _, _, user, inode = _ANSWER.unpack_from(answer, _HEADER.size)
    # what no program has open any more is said to be root's
    return int(user) if state == _ESTABLISHED and inode else None


def _asked(family: int, peer: tuple[str, int], own: tuple[str, int]) -> bytes:
    ports = [port.to_bytes(2, "big") for _, port, *_ in (peer, own)]
    addresses = [socket.inet_pton(family, address.partition("%")[0]) for address, *_ in (peer, own)]
    question = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, 0xFFFFFFFF, *ports, *addresses, 0, 0xFFFFFFFFFFFFFFFF)
    return _HEADER.pack(_HEADER.size + len(question), _BY_FAMILY, _REQUEST, 1, 0) + question
