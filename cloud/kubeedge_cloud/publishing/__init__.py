"""Published web services at the cloud's public name: http://<host>/<tenant>/<node>/<service>/<path>."""
