"""Devices of a tenant (devices.kubeedge.io): what nodes should have of them, and what nodes report of them."""
