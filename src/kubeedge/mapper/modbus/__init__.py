"""The mapper of Modbus TCP: `kubeedge mapper modbus`."""
