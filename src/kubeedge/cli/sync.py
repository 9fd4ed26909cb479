"""`kubeedge sync status`: how far both directions are, as the agent or the cloud process of this machine sees it."""

from __future__ import annotations

import argparse
from typing import Any
from urllib.parse import urlencode

from kubeedge.cli.control import call, local_socket
from kubeedge.cli.show import amount, as_json, table, tree


def run(options: argparse.Namespace) -> int:
    """Exit status 0, however far behind a node is. Raises CommandError when no process answers."""
    query = {name: value for name in ("tenant", "node") if (value := getattr(options, name))}
    answer = call(
        local_socket(options.socket), "GET", "/v1/sync" + (f"?{urlencode(query)}" if query else ""), what="the process"
    )
    print(as_json(answer) if options.output == "json" else _text(answer))
    return 0


def _text(answer: dict[str, Any]) -> str:
    """A line for each direction: at the edge of this node, in the cloud of all nodes."""
    nodes = answer.get("nodes")
    named = [(f"{n['tenant']}/{n['node']}", n) for n in nodes] if nodes is not None else [("", answer)]
    rows = []
    for name, node in named:
        for direction, way in (("down", "cloud to node"), ("up", "node to cloud")):
            rows.append((*([name] if name else []), way, _state(node, node[direction]), *_counts(node[direction])))
    header = ("DIRECTION", "STATE", "REVISION", "KEYS", "BATCHES", "CHANGES", "BYTES", "SNAPSHOTS")
    shown = {"nodes", "down", "up", "wire"}
    head = tree({key: item for key, item in answer.items() if key not in shown})
    lines = [
        head,
        "",
        table((*(["NODE"] if nodes is not None else []), *header), rows) if rows else "no node has attached yet",
    ]
    for name, node in named:
        for direction in ("down", "up"):
            if why := node[direction].get("refusal"):
                lines += ["", f"refused{f' of {name}' if name else ''}: {why}"]
            if seconds := node[direction].get("throttledSeconds"):
                lines += ["", f"{name or direction} changes more than it may and was throttled: {seconds:g} s in all"]
    if wire := answer.get("wire"):
        lines += ["", f"on the channel: {amount(wire['bytesIn'])} in, {amount(wire['bytesOut'])} out"]
    return "\n".join(lines)


def _state(node: dict[str, Any], progress: dict[str, Any]) -> str:
    if refused := progress.get("refused"):
        return f"{refused} keys refused"
    if not node["attached"]:
        return f"away, {progress['queue']} keys wait" if "queue" in progress else "away"
    if "queue" not in progress:
        return "follows"
    return f"{progress['queue']} keys behind" if progress["queue"] else "in sync"


def _counts(progress: dict[str, Any]) -> tuple[object, ...]:
    """Of a node that is away the cloud knows few of them."""
    size = progress.get("bytes")
    return (
        *(progress.get(name, "-") for name in ("revision", "keys", "batches", "changes")),
        "-" if size is None else amount(size),
        progress.get("snapshots", "-"),
    )
