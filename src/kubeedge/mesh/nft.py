"""Hands rules to the kernel with nft(8), and reports when another program has removed them.

A transaction of nft is applied as a whole or not at all. The program is started for each, and nothing of it stays in the agent's memory.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import AsyncGenerator

from kubeedge.errors import Unavailable
from kubeedge.kubebus.l3.netlink import pack_attribute, parse_attributes, parse_messages

_TIMEOUT = 120.0  # seconds for one transaction: thousands of Services on a slow machine
_MESSAGE = 400  # characters of nft's message
NETFILTER = 12  # NETLINK_NETFILTER
_GROUP_NFTABLES = 7  # NFNLGRP_NFTABLES
_ADD_MEMBERSHIP, _SOL_NETLINK = 1, 270
_GETTABLE, _NEWTABLE = (10 << 8) | 1, 10 << 8  # NFNL_SUBSYS_NFTABLES, NFT_MSG_*
_NAME, _USE, _HANDLE = 1, 3, 4  # NFTA_TABLE_*
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_FAMILIES = {4: socket.AF_INET, 6: 10}  # NFPROTO_IPV4 is 2, NFPROTO_IPV6 is 10


async def commit(commands: str) -> None:
    """All of them, or none. Raises Unavailable with nft's reason."""
    try:
        process = await asyncio.create_subprocess_exec(
            "nft",
            "-f",
            "-",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "LC_ALL": "C"},
        )
    except OSError as exc:
        raise Unavailable(f"cannot start nft (package nftables): {exc.strerror}") from exc
    try:
        async with asyncio.timeout(_TIMEOUT):
            _, said = await process.communicate(commands.encode())
    except TimeoutError as exc:
        raise Unavailable(f"nft did not end within {_TIMEOUT:g} s") from exc
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        first = said.decode(errors="replace").strip().partition("\n")[0]
        raise Unavailable(f"nft: {first[:_MESSAGE] or f'exit status {process.returncode}'}")


def table_state(name: str, version: int) -> tuple[int, int] | None:
    """(handle, chains and sets in it) of a table: other ones when another program has removed or emptied it. None: there is none.

    Raises OSError where the kernel has no nftables.
    """
    body = struct.pack("=BBH", _FAMILIES[version], 0, 0) + pack_attribute(_NAME, name.encode() + b"\0")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETFILTER) as kernel:
        kernel.send(_HEADER.pack(_HEADER.size + len(body), _GETTABLE, 1, 1, 0) + body)
        kind, _, answer = next(parse_messages(kernel.recv(8192)))
    if kind != _NEWTABLE:
        (code,) = struct.unpack_from("=i", answer)
        if code == -errno.ENOENT:
            return None
        raise OSError(-code, os.strerror(-code))
    found = parse_attributes(answer[4:])
    return int.from_bytes(found.get(_HANDLE, b""), "big"), int.from_bytes(found.get(_USE, b""), "big")


async def changes_of_rules(*, settle: float = 0.05) -> AsyncGenerator[None, None]:
    """Yields after each burst of changes that any program makes to nftables, our own included. Raises OSError without nftables."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETFILTER) as kernel:
        kernel.setblocking(False)
        kernel.bind((0, 0))
        kernel.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NFTABLES)
        while True:
            try:
                await loop.sock_recv(kernel, 65_536)
            except OSError as exc:
                if exc.errno != errno.ENOBUFS:  # more happened than the socket could hold
                    raise
            await asyncio.sleep(settle)
            while True:
                try:
                    kernel.recv(65_536)
                except BlockingIOError:
                    break
                except OSError as exc:
                    if exc.errno != errno.ENOBUFS:
                        raise
            yield
