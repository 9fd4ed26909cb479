"""Tells the agent when this machine's way to the cloud may have changed: an address, a route or a link came or went."""
