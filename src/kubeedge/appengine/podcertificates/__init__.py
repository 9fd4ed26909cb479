"""Certificates of pods: keys that are made on this node, requests for them, and their renewal."""
