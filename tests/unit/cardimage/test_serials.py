"""The serial number of a board: what its firmware says, or the address of its network interface."""

from __future__ import annotations

import pytest

from kubeedge_card import machine


def test_serial_numbers_of_boards(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "/proc/device-tree/serial-number": "10000000abcdef01\0",
        "/sys/class/net/eth0/address": "52:54:00:12:34:56\n",
    }

    class Files:
        def __init__(self, path: str) -> None:
            self._path = path

        def read_text(self, **options: str) -> str:
            if self._path not in texts:
                raise FileNotFoundError(self._path)
            return texts[self._path]

    monkeypatch.setattr(machine, "Path", Files)
    assert machine.serial("eth0") == "10000000abcdef01"
    texts["/proc/device-tree/serial-number"] = "0000000000000000\0"
    assert machine.serial("eth0") == "52:54:00:12:34:56"
    texts["/sys/class/dmi/id/product_serial"] = "To be filled; \u00e9 $(reboot)"
    assert machine.serial("eth0") == "Tobefilledreboot"
    for placeholder in (
        "To be filled by O.E.M.",
        "Default string",
        "System Serial Number",
        "0123456789",
        "-.-.",
        "xxxxxxxx",
    ):
        texts["/sys/class/dmi/id/product_serial"] = placeholder  # of many boards
        assert machine.serial("eth0") == "52:54:00:12:34:56", placeholder
    texts["/sys/class/dmi/id/product_serial"] = "-SN12345"  # the cloud takes none that begins so
    assert machine.serial("eth0") == "SN12345"
    texts.clear()
    assert machine.serial("eth0") == ""
