"""The marks that merged writes of nodes leave on an object, in its annotation kubeedge.io/merged-write. Pure.

A mark is written together with the fields of its write, so it tells a process that has no other memory (the one before died between the
two steps of a merge) that the write is in, and what of it is not: the answer is then the one that would have been given.

    {"edge1": ["ID"], "edge2": ["ID", "data.a, data.b"]}     node: the write, and its fields where the cloud's value stayed

A node's writes are merged one after the other, so its last one is enough. Nodes that share an object do not take each other's marks away;
the oldest one goes when there are more than MOST.
"""

from __future__ import annotations

import json

from kubeedge.api import edge_writes, meta
from kubeedge.api.names import NodeName, Object

MOST = 16  # marks on an object: twice the merges that a process has in the works at once
_MAX_BYTES = 32 * 1024  # of an annotation that is looked into


def find(obj: Object, node: NodeName, write_id: str) -> str | None:
    """The fields of that write where the cloud's value stayed, "" when there were none; None when there is no such mark."""
    mark = _marks(obj).get(node)
    return None if mark is None or mark[0] != write_id else mark[1]


def put(obj: Object, node: NodeName, write_id: str, kept: str) -> Object:
    """A copy of the object with the mark as its newest."""
    marks = {name: mark for name, mark in _marks(obj).items() if name != node}
    newest = dict([*marks.items(), (str(node), (write_id, kept))][-MOST:])
    text = json.dumps({name: [m for m in mark if m] for name, mark in newest.items()}, separators=(",", ":"))
    inner = dict(meta.metadata(obj))
    inner["annotations"] = {**(inner.get("annotations") or {}), edge_writes.MERGED: text}
    return {**obj, "metadata": inner}


def _marks(obj: Object) -> dict[str, tuple[str, str]]:
    """What somebody else wrote into the annotation is no mark."""
    text = (meta.metadata(obj).get("annotations") or {}).get(edge_writes.MERGED)
    if not isinstance(text, str) or len(text) > _MAX_BYTES:
        return {}
    node, slash, write_id = text.partition("/")
    if slash and not text.startswith("{"):  # as it was written before: one mark, NODE/ID
        return {node: (write_id, "")}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return {
        name: (mark[0], mark[1] if len(mark) > 1 else "")
        for name, mark in (found.items() if isinstance(found, dict) else ())
        if isinstance(mark, list) and 0 < len(mark) <= 2 and all(isinstance(part, str) for part in mark)
    }
