"""KubeBus and its peers on bad networks: `make bench NAME=wan`."""
