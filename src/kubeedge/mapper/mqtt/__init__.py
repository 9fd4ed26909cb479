"""The mapper of devices that speak topics of their own through an MQTT broker: `kubeedge mapper mqtt`."""
