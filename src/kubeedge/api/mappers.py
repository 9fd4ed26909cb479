"""The protocols of the mappers that come with the agent (docs/guide/mappers.md)."""

MAPPERS = ("modbus", "http", "mqtt", "opcua", "gpio", "serial", "can", "ble", "onvif", "virtual")
