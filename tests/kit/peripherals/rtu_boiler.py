"""A boiler that speaks Modbus RTU (pymodbus), behind what carries a serial line over TCP: python rtu_boiler.py ADDRESS PORT UNIT.

Input register 0: 215, in tenths of a degree; holding register 10: its target, 20; coil 3: its pump, on. Says "ready", and "written REGISTER VALUE".
"""

import asyncio
import sys

from pymodbus import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


async def changed(function, start, address, count, registers, values):  # type: ignore[no-untyped-def]
    if values is not None:
        print("written", address, int(values[0]), flush=True)


async def main(address: str, port: str, unit: str) -> None:
    bits = [SimData(0, values=[False] * 3 + [True] + [False] * 12, datatype=DataType.BITS)]
    holding = [SimData(10, values=[20], datatype=DataType.REGISTERS)]
    inputs = [SimData(0, values=[215], datatype=DataType.REGISTERS)]
    device = SimDevice(int(unit), simdata=(bits, bits, holding, inputs), action=changed)
    server = ModbusTcpServer(device, framer=FramerType.RTU, address=(address, int(port)))
    print("ready", flush=True)
    await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
