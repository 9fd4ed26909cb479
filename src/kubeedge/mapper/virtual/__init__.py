"""The mapper of devices that do not exist, to try things out: `kubeedge mapper virtual`."""
