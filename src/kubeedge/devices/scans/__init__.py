"""Devices that a scan has found, on their way to the cloud; and scans that the cloud asks for."""
