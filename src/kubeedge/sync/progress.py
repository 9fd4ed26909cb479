"""How far one direction of sync is: values for the command line and for Prometheus. Pure."""

from __future__ import annotations

from kubeedge.api.names import Revision
from kubeedge.kit.dataclasses import dataclass
from kubeedge.sync.codec import KeysRefused


@dataclass(slots=True)
class Progress:
    """For `kubeedge status`: what one direction has done since the agent started."""

    revision: Revision = Revision(0)  # durable at the sink
    batches: int = 0
    changes: int = 0
    bytes: int = 0
    snapshots: int = 0
    refused: KeysRefused | None = None  # what the sink does not take, since the channel was attached
    throttled: float = 0.0  # seconds that the sink has made the source wait, as it changes more than it may


def refusal(told: KeysRefused) -> str:
    """Why a sink does not take some keys, as a message."""
    return f"it takes at most {told.keys} keys and {told.bytes} bytes of this node, and no very long keys; delete what is not needed"
