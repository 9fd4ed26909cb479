"""The mapper of devices that speak lines of text on a serial line."""
