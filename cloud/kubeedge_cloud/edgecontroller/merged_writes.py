"""The merged writes of nodes that are noted on an object, in its annotation kubeedge.io/merged-write. Pure.

An entry is written together with the fields of its write, so it tells a process that has no other memory (the one before died between the
two steps of a merge) that the write is in, and what of it is not: the answer is then the one that would have been given.

    {"edge1": ["ID"], "edge2": ["ID", "data.a, data.b"]}     node: the write, and its fields where the cloud's value stayed

A node's writes are merged one after the other, so its last one is enough. Nodes that share an object do not take each other's merged_writes away;
the oldest one goes when there are more than MOST.
"""

from __future__ import annotations

import json

from kubeedge.api import edge_writes, meta
from kubeedge.api.names import NodeName, Object

MOST = 16  # entries on an object: twice the merges that a process has in the works at once
_MAX_BYTES = 32 * 1024  # of an annotation that is looked into


def find(obj: Object, node: NodeName, write_id: str) -> str | None:
    """The fields of that write where the cloud's value stayed, "" when there were none; None when there is no such entry."""
    entry = _merged_writes(obj).get(node)
    return None if entry is None or entry[0] != write_id else entry[1]


def put(obj: Object, node: NodeName, write_id: str, kept: str) -> Object:
    """A copy of the object with the entry as its newest."""
    merged_writes = {name: entry for name, entry in _merged_writes(obj).items() if name != node}
    newest = dict([*merged_writes.items(), (str(node), (write_id, kept))][-MOST:])
    text = json.dumps({name: [m for m in entry if m] for name, entry in newest.items()}, separators=(",", ":"))
    inner = dict(meta.metadata(obj))
    inner["annotations"] = {**(inner.get("annotations") or {}), edge_writes.MERGED: text}
    return {**obj, "metadata": inner}


def _merged_writes(obj: Object) -> dict[str, tuple[str, str]]:
    """Tolerates an annotation that was written by others: what is not an entry is ignored."""
    text = (meta.metadata(obj).get("annotations") or {}).get(edge_writes.MERGED)
    if not isinstance(text, str) or len(text) > _MAX_BYTES:
        return {}
    node, slash, write_id = text.partition("/")
    if slash and not text.startswith("{"):  # as it was written before: one entry, NODE/ID
        return {node: (write_id, "")}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return {
        name: (entry[0], entry[1] if len(entry) > 1 else "")
        for name, entry in (found.items() if isinstance(found, dict) else ())
        if isinstance(entry, list) and 0 < len(entry) <= 2 and all(isinstance(part, str) for part in entry)
    }
