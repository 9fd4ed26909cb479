"""The structures of Linux's GPIO interface, as a C compiler and the kernel's own header have them."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kubeedge.errors import Invalid, PeerError
from kubeedge.mapper.gpio import core
from kubeedge.mapper.gpio.driver import GpioClient
from kubeedge.mapper.values import MappedDevice, MappedProperty

PROGRAM = r"""
#include <linux/gpio.h>
#include <stdio.h>
#include <string.h>
static void hex(const void *p, size_t n) { for (size_t i = 0; i < n; i++) printf("%02x", ((const unsigned char *) p)[i]); printf("\n"); }
int main(void) {
    printf("%lu %lu %lu %lu %lu %lu\n", (unsigned long) GPIO_GET_CHIPINFO_IOCTL, (unsigned long) GPIO_V2_GET_LINEINFO_IOCTL,
           (unsigned long) GPIO_V2_GET_LINE_IOCTL, (unsigned long) GPIO_V2_LINE_SET_CONFIG_IOCTL,
           (unsigned long) GPIO_V2_LINE_GET_VALUES_IOCTL, sizeof(struct gpio_v2_line_event));
    struct gpio_v2_line_request input = {.offsets = {7}, .consumer = "kubeedge", .num_lines = 1, .fd = -1};
    input.config.flags = GPIO_V2_LINE_FLAG_INPUT | GPIO_V2_LINE_FLAG_EDGE_RISING | GPIO_V2_LINE_FLAG_EDGE_FALLING |
                         GPIO_V2_LINE_FLAG_ACTIVE_LOW | GPIO_V2_LINE_FLAG_BIAS_PULL_UP;
    input.config.num_attrs = 1;
    input.config.attrs[0].attr.id = GPIO_V2_LINE_ATTR_ID_DEBOUNCE;
    input.config.attrs[0].attr.debounce_period_us = 5000;
    input.config.attrs[0].mask = 1;
    hex(&input, sizeof input);
    struct gpio_v2_line_config output = {.flags = GPIO_V2_LINE_FLAG_OUTPUT | GPIO_V2_LINE_FLAG_OPEN_DRAIN, .num_attrs = 1};
    output.attrs[0].attr.id = GPIO_V2_LINE_ATTR_ID_OUTPUT_VALUES;
    output.attrs[0].attr.values = 1;
    output.attrs[0].mask = 1;
    hex(&output, sizeof output);
    struct gpio_v2_line_info info = {.name = "RELAY_1", .offset = 3};
    hex(&info, sizeof info);
    struct gpiochip_info chip = {.name = "gpiochip0", .label = "pinctrl-rp1", .lines = 54};
    hex(&chip, sizeof chip);
    struct gpio_v2_line_event events[2] = {{.id = GPIO_V2_LINE_EVENT_FALLING_EDGE, .line_seqno = 7, .seqno = 9},
                                           {.id = GPIO_V2_LINE_EVENT_RISING_EDGE, .line_seqno = 30, .seqno = 40}};
    hex(events, sizeof events);
    struct gpio_v2_line_values values = {.bits = 1, .mask = 1};
    hex(&values, sizeof values);
}
"""


def prop(kind: str = "BOOLEAN", writable: bool = False, **visitor: Any) -> MappedProperty:
    return MappedProperty("default/board", "button", kind, writable, visitor={"line": 7, **visitor})


def test_every_structure_is_that_of_the_kernel_s_header(tmp_path: Path) -> None:
    (tmp_path / "p.c").write_text(PROGRAM)
    subprocess.run(["gcc", "-o", str(tmp_path / "p"), str(tmp_path / "p.c")], check=True)
    said = subprocess.run([str(tmp_path / "p")], check=True, capture_output=True, text=True).stdout.splitlines()
    numbers = [int(word) for word in said[0].split()]
    assert numbers == [core.GET_CHIP, core.GET_INFO, core.GET_LINE, core.SET_CONFIG, core.GET_VALUES, core.EVENT.size]
    request, config, info, chip, events, values = (bytes.fromhex(line) for line in said[1:])
    line = core.line_of(prop(activeLow=True, bias="pull-up", debounce=5000, push=True))
    assert core.opening(line, 7) == request and core.file_of(request) == -1
    assert core.writing(core.line_of(prop(writable=True, drive="open-drain")), True) == config
    assert core.name_of(info) == "RELAY_1" and core.asking(3)[64:] == info[64:]
    assert core.label_of(chip) == "pinctrl-rp1"
    assert core.lines_of(chip) == 54 and len(core.chip_info()) == len(chip)
    assert core.edges(events) == [(False, 7), (True, 30)] and core.value_of(values)
    with pytest.raises(PeerError):
        core.edges(events[:-1])


@pytest.mark.parametrize(
    "wrong, why",
    [
        (prop(line=None), "line must be"),
        (prop(line=-1), "line must be"),
        (prop(line=99999), "line must be"),
        (prop(line="x" * 32), "line must be"),
        (prop("FLOAT"), "a BOOLEAN or an INT"),
        (prop(bias="up"), "bias must be"),
        (prop(drive="push"), "drive must be"),
        (prop(debounce=-1), "debounce must be"),
        (prop(writable=True, push=True), "must be ReadOnly"),
        (prop("INT", count="rising"), "count must be"),
        (prop("INT", push=True, count="all"), "count must be"),
        (prop("BOOLEAN", push=True, count="both"), "count must be"),
    ],
)
def test_a_visitor_that_makes_no_sense_is_refused(wrong: MappedProperty, why: str) -> None:
    with pytest.raises(Invalid, match=f"default/board: property button: .*{why}"):
        core.line_of(wrong)


def test_a_chip_is_a_chip() -> None:
    def chip(name: Any) -> MappedDevice:
        return MappedDevice("default/board", "gpio", {"chip": name}, {})

    assert core.chip_of(chip("gpiochip4")) == core.chip_of(chip("/dev/gpiochip4")) == ("/dev/gpiochip4", "")
    assert core.chip_of(chip("pinctrl-rp1")) == ("", "pinctrl-rp1")
    assert core.chip_of(chip("9030000.pl061")) == ("", "9030000.pl061")
    for name in ("/dev/mem", "gpiochip", "/dev/gpiochip0/../mem", "../mem", "x" * 32, "", 4, None):
        with pytest.raises(Invalid, match="device default/board: chip must be"):
            core.chip_of(chip(name))
    for name in ("gpiochip999", "no-such-chip"):
        with pytest.raises(FileNotFoundError):
            GpioClient.open(chip(name))
    with pytest.raises(Invalid, match="a line is 0 or 1"):
        core.level(prop("INT"), 2)


def test_edges_are_counted_by_the_kernel(tmp_path: Path) -> None:
    """Whose numbers go on while nobody reads: a pulse that is over before anybody looks has been."""
    pulses = prop("INT", push=True, count="rising")
    line = core.line_of(pulses)
    flags = core.opening(line, 7)[288:296]
    assert int.from_bytes(flags, sys.byteorder) == core.INPUT | core.RISING
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    found: list[Mapping[str, Any]] = []

    async def run() -> None:
        client = GpioClient(
            MappedDevice("default/board", "gpio", {}, {"button": pulses}), os.open("/dev/null", os.O_RDWR)
        )
        client._files["button"] = reader
        listening = asyncio.create_task(client.listen(found.append))
        await asyncio.sleep(0)
        for last in (1, 16, 90):
            os.write(writer, core.EVENT.pack(0, 1, 7, last, last))
            while found[-1] != {"button": last}:
                await asyncio.sleep(0)
            assert client.read(pulses) == last
        listening.cancel()
        await asyncio.wait([listening])
        client.close()

    asyncio.run(run())
    os.close(writer)
    assert found[0] == {"button": 0}


@pytest.mark.parametrize("kind, low, high", [("BOOLEAN", "false", "true"), ("INT", "0", "1")])
def test_a_level_has_the_property_s_type(monkeypatch: pytest.MonkeyPatch, kind: str, low: str, high: str) -> None:
    """By reading and by edges."""
    level, pushed = prop(kind), prop(kind, push=True)
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    bits = [0]
    monkeypatch.setattr(fcntl, "ioctl", lambda file, request, argument: struct.pack("=QQ", bits[0], 1))
    found: list[Mapping[str, Any]] = []

    async def run() -> None:
        device = MappedDevice("default/board", "gpio", {}, {"button": pushed})
        client = GpioClient(device, os.open("/dev/null", os.O_RDWR))
        client._files["button"] = reader
        assert level.text(client.read(level)) == low
        bits[0] = 1
        assert level.text(client.read(level)) == high
        listening = asyncio.create_task(client.listen(found.append))
        await asyncio.sleep(0)
        os.write(writer, core.EVENT.pack(0, 2, 7, 1, 1))
        while len(found) < 2:
            await asyncio.sleep(0)
        listening.cancel()
        await asyncio.wait([listening])
        client.close()

    asyncio.run(run())
    os.close(writer)
    assert [level.text(one["button"]) for one in found] == [high, low]
