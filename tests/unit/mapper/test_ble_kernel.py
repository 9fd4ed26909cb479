"""A controller that the kernel leaves to a mapper, on a machine without BlueZ: what reaches it, and what devices say of themselves to everybody.

A whole controller behind a kernel: make test-boot BOARD=devices STEPS=devices.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubeedge._fastpath import libc

from kubeedge.errors import Invalid
from kubeedge.mapper.ble import advertised, controllers
from kubeedge.mapper.dbus import bus

#: flags, the name "thermo", the services 181a and 180f, and one of 16 bytes
ADVERTISED = bytes.fromhex("02010607097468 65726d6f05031a180f181107f0debc9a785634127856341278563412")


def test_what_a_device_says_of_itself() -> None:
    assert advertised.name_of(ADVERTISED) == "thermo"
    assert advertised.uuids_of(ADVERTISED) == (
        "0000181a-0000-1000-8000-00805f9b34fb",
        "0000180f-0000-1000-8000-00805f9b34fb",
        "12345678-1234-5678-1234-56789abcdef0",
    )
    assert advertised.name_of(bytes.fromhex("0308 4142 0409 414243")) == "ABC", "the whole name counts"
    assert advertised.name_of(b"") == "" and advertised.uuids_of(b"\0\0\0") == ()


@given(st.binary(max_size=255))
def test_whatever_it_says(data: bytes) -> None:
    assert len(advertised.name_of(data)) <= 255
    assert len(advertised.uuids_of(data)) <= 32
    for cut in range(min(len(ADVERTISED), 40)):
        advertised.uuids_of(ADVERTISED[:cut])


def test_the_address_is_that_of_the_user_channel() -> None:
    """struct sockaddr_hci, in the machine's order: AF_BLUETOOTH, the controller, HCI_CHANNEL_USER."""
    assert controllers.user_channel(2) == struct.pack("=HHH", 31, 2, 1)


def test_bind_gives_a_socket_an_address_in_bytes(tmp_path: Path) -> None:
    path = tmp_path / "here"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        libc.bind(sock.fileno(), struct.pack("=H", socket.AF_UNIX) + os.fsencode(path) + b"\0")
        assert sock.getsockname() == str(path)
        with pytest.raises(OSError, match="bind: ") as found:
            libc.bind(sock.fileno(), b"")
        assert found.value.errno == errno.EINVAL
    with pytest.raises(OSError):
        libc.bind(-1, b"\0\0")


def test_a_controller_that_is_not_there_is_named() -> None:
    """This machine has none of that number; or its kernel has no Bluetooth."""
    with pytest.raises(OSError, match="hci999 cannot be used: "):
        asyncio.run(controllers.transport_of("hci999"))
    with pytest.raises(Invalid):
        asyncio.run(controllers.transport_of("usb:1"))


def test_each_packet_is_one_for_the_kernel() -> None:
    async def run() -> None:
        ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        transport = controllers._KernelTransport(ours)
        with kernel:
            transport.write(b"\1\3\x0c\0")
            transport.write(b"\2abc")
            assert [kernel.recv(64), kernel.recv(64)] == [b"\1\3\x0c\0", b"\2abc"]
            kernel.send(b"\4\x0e\1\0")
            kernel.send(b"\4\x0f\1\0")
            assert [await transport.read(64), await transport.read(64)] == [b"\4\x0e\1\0", b"\4\x0f\1\0"]
            await transport.aclose()
            assert kernel.recv(64) == b""

    asyncio.run(run())


def test_a_machine_with_a_bus_has_bluez_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DBUS_SYSTEM_BUS_ADDRESS", raising=False)
    monkeypatch.setattr(bus, "SYSTEM_BUS", f"unix:path={tmp_path / 'bus'}")
    assert not bus.has_system_bus()
    (tmp_path / "bus").touch()
    assert bus.has_system_bus()
    (tmp_path / "bus").unlink()
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus")
    assert bus.has_system_bus(), "whoever set it hears that nobody is there"


def test_numbers_of_the_kernel_are_those_of_its_headers(tmp_path: Path) -> None:
    (tmp_path / "p.c").write_text(
        "#include <stdio.h>\n#include <sys/ioctl.h>\n#include <sys/socket.h>\nint main(void) { printf(\"%d %lu\", AF_BLUETOOTH, (unsigned long) _IOW('H', 202, int)); }\n"
    )
    subprocess.run(["gcc", "-o", str(tmp_path / "p"), str(tmp_path / "p.c")], check=True)
    said = subprocess.run([str(tmp_path / "p")], check=True, capture_output=True, text=True).stdout.split()
    assert said == [str(controllers._BLUETOOTH), str(controllers._DOWN)]
