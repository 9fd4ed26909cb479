"""Devices for mappers, on loopback, by programs that nobody here wrote: Modbus (pymodbus), OPC-UA (asyncua), HTTP (http.server), MQTT (Eclipse Paho, at
a broker that is there), and a line of text on a pseudo-terminal.

    python -m tests.kit.field_devices BROKER_PORT        prints {"tty": "/dev/pts/7"} once all of them serve

Each has a temperature and a target that can be set; it reads "T?" and "S=20" on the line, registers 0 (tenths) and 1, the nodes Boiler.temperature and
Boiler.target, GET and PUT of JSON, the topics plug and plug/set.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import tty
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

MODBUS, OPCUA, HTTP = 502, 4840, 8095


class Thermostat(BaseHTTPRequestHandler):
    """The one with HTTP."""

    values: dict[str, float] = {"temperature": 23.5, "target": 0}

    def do_GET(self) -> None:
        """Both values."""
        body = json.dumps(self.values).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        """{"target": 20}."""
        self.values.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""


def plug(port: int) -> None:
    """The one with MQTT."""
    values: dict[str, float] = {"temperature": 24.5, "target": 0}

    def tell(client: mqtt.Client) -> None:
        client.publish("plug", json.dumps(values), qos=1, retain=True)

    def connected(client: mqtt.Client, *_: Any) -> None:
        client.subscribe("plug/set", 1)
        tell(client)

    def message(client: mqtt.Client, _: Any, found: mqtt.MQTTMessage) -> None:
        values.update(json.loads(found.payload))
        tell(client)

    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_connect, client.on_message = connected, message
    client.connect("127.0.0.1", port)
    client.loop_start()


def line() -> str:
    """The one on a line of text: the path of its other end."""
    ours, theirs = os.openpty()
    tty.setraw(ours)
    tty.setraw(theirs)

    def serve() -> None:
        target = b"0"
        with os.fdopen(ours, "rb+", buffering=0) as port:
            pending = b""
            while True:
                pending += port.read(256) or b""
                while b"\n" in pending:
                    said, pending = pending.split(b"\n", 1)
                    if said.startswith(b"S="):
                        target = said[2:]
                    port.write({b"T?": b"T=25.5\n", b"S?": b"S=" + target + b"\n"}.get(said, b"OK\n"))

    threading.Thread(target=serve, daemon=True).start()
    return os.ttyname(theirs)


async def boiler() -> Any:
    """The one with OPC-UA, without security."""
    from asyncua import Server, ua

    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{OPCUA}/boiler")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    space = await server.register_namespace("urn:acme")
    for name, value, kind in (("temperature", 22.5, ua.VariantType.Float), ("target", 0, ua.VariantType.Int16)):
        made = await server.nodes.objects.add_variable(
            ua.NodeId(f"Boiler.{name}", space), name, value, varianttype=kind
        )
        await made.set_writable()
    await server.start()
    return server


async def main() -> None:
    """All of them, until the process is killed."""
    from pymodbus.server import ModbusTcpServer
    from pymodbus.simulator import DataType, SimData, SimDevice

    registers = [SimData(0, values=[215, 0], datatype=DataType.REGISTERS)]
    modbus = ModbusTcpServer(SimDevice(1, simdata=registers), address=("127.0.0.1", MODBUS))
    await modbus.serve_forever(background=True)
    opcua = await boiler()
    http = ThreadingHTTPServer(("127.0.0.1", HTTP), Thermostat)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    plug(int(sys.argv[1]))
    print(json.dumps({"tty": line()}), flush=True)
    await asyncio.get_running_loop().create_future()
    del opcua


if __name__ == "__main__":
    asyncio.run(main())
