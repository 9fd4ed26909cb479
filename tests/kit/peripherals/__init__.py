"""Devices of the tests that are processes of their own, on packages that only they have (tests/kit/foreign.py)."""
