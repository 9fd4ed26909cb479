"""The mapper of Bluetooth Low Energy devices, read and written by the UUIDs of their characteristics: `kubeedge mapper ble`."""
