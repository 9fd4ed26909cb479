"""For programs that read and set devices: mappers. See docs/guide/mappers.md.

    from kubeedge.mapper import Device, Mapper

    mapper = Mapper(protocol="modbus")

    @mapper.connect
    async def connect(device: Device): ...

A mapper is a process of its own and talks to the agent by MQTT alone.
"""

from kubeedge.mapper.mapper import Mapper
from kubeedge.mapper.values import NOTHING
from kubeedge.mapper.values import MappedDevice as Device
from kubeedge.mapper.values import MappedProperty as Property

__all__ = ["NOTHING", "Device", "Mapper", "Property"]
