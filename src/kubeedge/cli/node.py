"""`kubeedge node list|remove`: who is there; and a machine that is lost, stolen or retired is no node any more. In the cloud."""

from __future__ import annotations

import argparse
import time
import urllib.parse
from typing import Any

from kubeedge.cli.control import call_cloud
from kubeedge.cli.show import as_json, table


def run(options: argparse.Namespace) -> int:
    """Exit status 0. Raises CommandError with the cloud's words when it refuses."""
    return _list(options) if options.verb == "list" else _remove(options)


def _list(options: argparse.Namespace) -> int:
    query = f"?{urllib.parse.urlencode({'tenant': options.tenant})}" if options.tenant else ""
    answer = call_cloud(options.socket, "GET", f"/v1/nodes{query}")
    print(as_json(answer) if options.output == "json" else _table(answer["nodes"]))
    return 0


def _table(nodes: list[dict[str, Any]]) -> str:
    rows = [
        (
            n["tenant"],
            n["node"],
            "attached" if n["attached"] else "away",
            "now" if n["attached"] else _date(n["lastSeen"]),
            n["address"] or "-",
            n["overlay"],
            n["version"] or "-",
            "-" if n["lag"] is None else f"{n['lag']} keys",
        )
        for n in nodes
    ]
    return table(("TENANT", "NODE", "STATE", "LAST SEEN", "ADDRESS", "OVERLAY", "VERSION", "LAG"), rows)


def _date(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at else "never"


def _remove(options: argparse.Namespace) -> int:
    tenant, node = (urllib.parse.quote(text, safe="") for text in (options.tenant, options.node))
    answer = call_cloud(options.socket, "DELETE", f"/v1/tenants/{tenant}/nodes/{node}")
    print(
        as_json(answer)
        if options.output == "json"
        else f"node {answer['node']} of tenant {answer['tenant']} is removed"
    )
    return 0
