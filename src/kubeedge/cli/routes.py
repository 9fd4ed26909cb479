"""`kubeedge routes`: what is reached through KubeBus. On a virtual router also what machines behind it have to be told."""

from __future__ import annotations

import argparse
import urllib.parse
from typing import Any

from kubeedge.cli.control import call, local_socket
from kubeedge.cli.show import as_json, table


def run(options: argparse.Namespace) -> int:
    """Exit status 0. Raises CommandError when neither an agent nor a cloud process answers."""
    target = f"/v1/routes?tenant={urllib.parse.quote(options.tenant, safe='')}"
    answer = call(local_socket(options.socket), "GET", target, what="the process")
    print(as_json(answer) if options.output == "json" else _text(answer))
    return 0


def _text(answer: dict[str, Any]) -> str:
    rows = [(r["prefix"], r["to"], r["mtu"] or "-") for r in answer["routes"]]
    lines = [table(("PREFIX", "TO", "MTU"), rows) if rows else "no networks behind nodes"]
    if answer.get("router") and not answer.get("masquerade"):
        lines += ["", "the way back, on each machine behind this router (or on its gateway):"]
        lines += [
            f"  ip {'-6 ' if ':' in network else ''}route add {network} via ADDRESS-OF-THIS-MACHINE"
            for network in answer["overlay"]
        ]
    elif answer.get("router"):
        lines += ["", "machines behind this router see its own address; they need no route"]
    return "\n".join(lines)
