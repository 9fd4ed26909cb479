"""Ours and the overlays that Debian ships, in the same namespaces, interleaved: `make bench NAME=peers`."""
