"""Where the machine's devices are: in /dev, or for a mapper in a container where the environment says, KUBEEDGE_DEV=/host/dev.

A container has a /dev of its own. Devices name files as the machine does, so that they do not depend on how their mapper runs.
"""

from __future__ import annotations

import os
from pathlib import PurePosixPath


def device_file(path: str) -> str:
    """The file that the machine calls `path` (/dev/ttyUSB0), which has no `..` in it."""
    own = os.environ.get("KUBEEDGE_DEV", "")
    return (
        str(PurePosixPath(own) / PurePosixPath(path).relative_to("/dev")) if own and path.startswith("/dev/") else path
    )
