"""What of a node's log stays, and whether there is room for more. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kubeedge.api.node_messages import SILENT, MessageReader

TENANT_BYTES = 32 * 1024 * 1024  # of the logs of all nodes of a tenant
NODE_BYTES = 2 * 1024 * 1024  # of one of them


def share(nodes: int) -> int:
    """Bytes that the log of one of so many nodes may have."""
    return min(NODE_BYTES, TENANT_BYTES // max(1, nodes))


def floor(readers: Iterable[MessageReader], now: float) -> int | None:
    """The position through which all readers have the messages; None: nobody reads. Nothing waits for one that has been silent for long."""
    return min((reader.through for reader in readers if now - reader.at < SILENT), default=None)


def gone(blocks: Mapping[int, int], through: int | None, more: int, most: int, end: int) -> Sequence[int] | None:
    """Positions of blocks that go, of `blocks`: position -> bytes, in order, so that `more` bytes have room; None: there is none yet.

    `through`: as `floor`; `end`: the position of the next message.
    """
    positions = sorted(blocks)
    ends = dict(zip(positions, [*positions[1:], end], strict=False))
    if through is not None:
        read = [position for position in positions if ends[position] - 1 <= through]
        left = sum(blocks.values()) - sum(blocks[position] for position in read)
        return read if left + more <= most or not left else None
    found, size = [], sum(blocks.values())
    for position in positions:
        if size + more <= most:
            break
        found.append(position)
        size -= blocks[position]
    return found
