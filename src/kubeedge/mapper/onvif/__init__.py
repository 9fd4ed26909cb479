"""The mapper of cameras that speak ONVIF, and their video for a browser: `kubeedge mapper onvif`."""
