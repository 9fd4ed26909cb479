"""Names that Kubernetes gives to objects of volumes. Pure."""

from __future__ import annotations

import hashlib


def attachment_name(handle: str, driver: str, node: str) -> str:
    """The name of the VolumeAttachment that says that a driver's volume is at a node."""
    return "csi-" + hashlib.sha256(f"{handle}{driver}{node}".encode()).hexdigest()
