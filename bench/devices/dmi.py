"""Reports by DMI, one connection for each: `python -m bench.devices.dmi SOCKET COUNT` prints the seconds that they took."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from kubeedge.api.protobuf import encode, parsed
from kubeedge.devices.dmi.table import TABLE
from kubeedge.kit.grpc import GrpcChannel

AT_ONCE = 8


async def reports(path: Path, count: int) -> float:
    types = parsed(TABLE)
    waiting = iter(range(count))

    async def one() -> None:
        for n in waiting:
            twin = {"propertyName": f"property{n % 10}", "reported": {"value": f"{n % 97}.5"}}
            message = encode(
                types,
                "ReportDeviceStatusRequest",
                {"deviceName": f"device{n % 100}", "deviceNamespace": "default", "reportedDevice": {"twins": [twin]}},
            )
            channel = GrpcChannel(path)
            try:
                await channel.call("/v1beta1.DeviceManagerService/ReportDeviceStatus", message, 60.0)
            finally:
                await channel.close()

    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one())
    return time.monotonic() - began


if __name__ == "__main__":
    print(asyncio.run(reports(Path(sys.argv[1]), int(sys.argv[2]))))
