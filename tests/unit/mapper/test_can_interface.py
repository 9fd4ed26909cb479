"""Setting a CAN interface up: the message as a C compiler and the kernel's headers make it, and what the kernel says where it may not be."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kubeedge.errors import Invalid, PeerError
from kubeedge.mapper.can import core, interface
from kubeedge.mapper.can.driver import CanClient
from kubeedge.mapper.values import MappedDevice

PROGRAM = r"""
#include <linux/can/netlink.h>
#include <linux/if.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <string.h>
int main(void) {
    struct {
        struct nlmsghdr header; struct ifinfomsg link;
        struct rtattr info, kind; char name[4]; struct rtattr data, timing; struct can_bittiming bits; struct rtattr restart; __u32 after;
    } m = {
        .header = {sizeof m, RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, 1, 0},
        .link = {.ifi_index = 7, .ifi_flags = IFF_UP, .ifi_change = IFF_UP},
        .info = {sizeof m - sizeof m.header - sizeof m.link, IFLA_LINKINFO},
        .kind = {sizeof m.kind + 3, IFLA_INFO_KIND}, .name = "can",
        .data = {sizeof m.data + sizeof m.timing + sizeof m.bits + sizeof m.restart + sizeof m.after, IFLA_INFO_DATA},
        .timing = {sizeof m.timing + sizeof m.bits, IFLA_CAN_BITTIMING}, .bits = {.bitrate = 500000},
        .restart = {sizeof m.restart + sizeof m.after, IFLA_CAN_RESTART_MS}, .after = 100,
    };
    for (size_t i = 0; i < sizeof m; i++) printf("%02x", ((unsigned char *) &m)[i]);
    printf("\n%d %zu\n", SIOCGIFFLAGS, sizeof(struct ifreq));
}
"""


def bus(**config: Any) -> MappedDevice:
    return MappedDevice("default/ecu", "can", config, {})


def test_the_message_is_that_of_the_kernel_s_headers(tmp_path: Path) -> None:
    (tmp_path / "p.c").write_text(PROGRAM)
    subprocess.run(["gcc", "-o", str(tmp_path / "p"), str(tmp_path / "p.c")], check=True)
    message, numbers = subprocess.run([str(tmp_path / "p")], check=True, capture_output=True, text=True).stdout.split(
        "\n", 1
    )
    assert interface.setting_up(7, 500_000).hex() == message
    assert numbers.split() == [str(interface._GET_FLAGS), str(interface._FLAGS.size)]


def test_what_the_kernel_answers() -> None:
    def said(kind: int, number: int) -> bytes:
        return struct.pack("=IHHIIi", 36, kind, 0, 1, 0, -number) + bytes(16)

    assert interface.answer(said(2, 0)) == 0
    assert interface.answer(said(2, errno.EPERM)) == errno.EPERM
    for wrong in (b"", said(2, 0)[:19], said(16, 0)):
        with pytest.raises(PeerError):
            interface.answer(wrong)


def test_the_kernel_refuses_what_is_no_can_interface() -> None:
    """`lo` is a link of another kind; or this kernel has no CAN at all."""
    with pytest.raises(OSError, match="lo cannot be set up with 500000 bits a second: "):
        interface.set_up("lo", 500_000)
    with pytest.raises(OSError):
        interface.set_up("can9999", 500_000)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert interface.is_up(sock, "lo")
        with pytest.raises(OSError):
            interface.is_up(sock, "can9999")
    assert os.path.exists("/sys/class/net/lo")


def test_a_bit_rate_is_one() -> None:
    assert core.bitrate_of(bus(interface="can0", bitrate="250000")) == 250_000
    assert core.bitrate_of(bus(interface="can0")) == 0
    for wrong in (0, 4999, 1_000_001, "fast", True):
        with pytest.raises(Invalid, match="device default/ecu: bitrate must be"):
            CanClient.open(bus(interface="can0", bitrate=wrong))
