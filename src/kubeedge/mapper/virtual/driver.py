"""The handlers of the virtual mapper."""

from __future__ import annotations

import time

from kubeedge.mapper.mapper import Mapper
from kubeedge.mapper.values import MappedDevice, MappedProperty, TypedValue
from kubeedge.mapper.virtual.core import VirtualDevice


def virtual_mapper() -> Mapper:
    """The mapper of devices without hardware. Their protocol has no configuration."""
    mapper = Mapper("virtual")

    @mapper.connect
    async def connect(device: MappedDevice) -> VirtualDevice:
        return VirtualDevice(time.monotonic())

    @mapper.read
    async def read(client: VirtualDevice, prop: MappedProperty) -> TypedValue:
        return client.read(prop, time.monotonic())

    @mapper.write
    async def write(client: VirtualDevice, prop: MappedProperty, value: TypedValue) -> None:
        client.write(prop, value)

    return mapper
