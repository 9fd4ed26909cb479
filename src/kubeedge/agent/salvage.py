"""What the agent keeps of a corrupt store. Pure."""

from __future__ import annotations

import contextlib
import json

from kubeedge.api import edge_writes, keys, node_messages


def worth_keeping(key: str, value: bytes) -> bool:
    """What the cloud wants and what it has not seen of us, as far as it is still JSON. The rest is fetched or made again."""
    if key.startswith(node_messages.BLOCKS):
        return False  # the queue has them
    if key.startswith((keys.DESIRED, f"{keys.REPORTED}{edge_writes.RESOURCE}/")):
        with contextlib.suppress(ValueError, RecursionError):
            return isinstance(json.loads(value), dict)
        return False
    return key.startswith(keys.LOCAL)
