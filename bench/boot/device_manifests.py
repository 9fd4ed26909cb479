"""Models and devices of the emulated machine's hardware, as a user would write them."""

from __future__ import annotations

from typing import Any

API = "devices.kubeedge.io/v1beta1"
#: of the chip whose lines are files of the machine, and of QEMU's own
SIMULATED, PL061 = "panel", "9030000.pl061"
POWER_BUTTON = 3  # QEMU's line for it
LINES = 8
BLE_ADDRESS = "F0:F1:F2:F3:F4:F5"
UNIT = 17

_Property = tuple[str, str, bool, dict[str, Any]]  # name, type, whether it is written, its visitor


def panel() -> list[dict[str, Any]]:
    """Lines by offset and by name, of a chip by its label."""
    return _device(
        "panel", "gpio", {"chip": SIMULATED},
        ("door", "BOOLEAN", False, {"line": 1, "push": True}),
        ("pulses", "INT", False, {"line": 2, "push": True, "count": "rising"}),
        ("level", "INT", False, {"line": "LEVEL"}),
        ("relay", "BOOLEAN", True, {"line": 4}),
        ("valve", "BOOLEAN", True, {"line": "VALVE", "activeLow": True}),
    )  # fmt: skip


def button() -> list[dict[str, Any]]:
    """The power button of the emulated board, and a lamp."""
    return _device(
        "board", "gpio", {"chip": PL061},
        ("presses", "INT", False, {"line": POWER_BUTTON, "push": True, "count": "rising"}),
        ("lamp", "BOOLEAN", True, {"line": 5}),
    )  # fmt: skip


def engine(name: str, interface: str) -> list[dict[str, Any]]:
    """A device on a CAN bus, whose interface nobody has set up."""
    return _device(
        name, "can", {"interface": interface, "bitrate": 500_000},
        ("speed", "FLOAT", False, {"id": "0x181", "start": 0, "length": 16, "scale": 0.25}),
        ("temperature", "INT", False, {"id": "0x18FEF100", "start": 7, "length": 8, "byteOrder": "big", "shift": -40}),
        ("limit", "INT", True, {"id": "0x201", "start": 8, "length": 16, "size": 4}),
    )  # fmt: skip


def boiler() -> list[dict[str, Any]]:
    """Modbus RTU behind an adapter on USB."""
    return _device(
        "boiler", "modbus", {"serialPort": "/dev/ttyUSB0", "baudRate": 19200, "parity": "even", "slaveID": UNIT, "timeout": 5000},
        ("temperature", "FLOAT", False, {"register": "InputRegister", "offset": 0, "scale": 0.1}),
        ("target", "INT", True, {"register": "HoldingRegister", "offset": 10}),
        ("pump", "BOOLEAN", True, {"register": "CoilRegister", "offset": 3}),
    )  # fmt: skip


def scale() -> list[dict[str, Any]]:
    """Lines of text on a UART."""
    return _device(
        "scale", "serial", {"serialPort": "/dev/ttyS0", "baudRate": 115200, "lineEnd": "\r\n", "timeout": 5000},
        ("weight", "FLOAT", False, {"request": "W?", "start": "W ", "field": 0}),
        ("tare", "INT", True, {"write": "TARE {value}", "answer": "OK"}),
        ("alarms", "INT", False, {"start": "ALARM ", "field": 0, "push": True}),
    )  # fmt: skip


def thermometer() -> list[dict[str, Any]]:
    """Bluetooth Low Energy, through a controller of the machine, without BlueZ."""
    return _device(
        "thermometer", "ble",
        {"macAddress": BLE_ADDRESS, "addressType": "random", "adapter": "hci0", "timeout": 60_000},
        ("temperature", "FLOAT", False, {"characteristicUUID": "2a6e", "format": "int16", "scale": 0.01, "push": True}),
        ("target", "INT", True, {"characteristicUUID": "12345678-1234-5678-1234-56789abcdef0", "format": "uint8"}),
    )  # fmt: skip


def _device(name: str, protocol: str, config: dict[str, Any], *properties: _Property) -> list[dict[str, Any]]:
    access = {True: "ReadWrite", False: "ReadOnly"}
    model = {
        "apiVersion": API,
        "kind": "DeviceModel",
        "metadata": {"name": name},
        "spec": {
            "protocol": protocol,
            "properties": [
                {"name": n, "type": kind, "accessMode": access[writable]} for n, kind, writable, _ in properties
            ],
        },
    }
    uses = []
    for n, _, _, visitor in properties:
        use: dict[str, Any] = {"name": n, "visitors": {"protocolName": protocol, "configData": visitor}}
        if protocol != "can" and "push" not in visitor:  # else it comes by itself
            use["collectCycle"] = 2000
        uses.append(use)
    device = {
        "apiVersion": API,
        "kind": "Device",
        "metadata": {"name": name},
        "spec": {
            "deviceModelRef": {"name": name},
            "nodeName": "card1",
            "protocol": {"protocolName": protocol, "configData": config},
            "properties": uses,
        },
    }
    return [model, device]
