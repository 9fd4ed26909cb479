"""`kubeedge token create|list|revoke`, and `gettoken`, which creates one."""

from __future__ import annotations

import argparse
import re
import time
import urllib.parse
from typing import Any

from kubeedge.cli import cluster
from kubeedge.cli.control import call_cloud, of_tenant
from kubeedge.cli.errors import UsageError
from kubeedge.cli.show import as_json, table

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def run(options: argparse.Namespace) -> int:
    """Exit status 0. Raises UsageError for a bad tenant or time to live. A token is shown once, when it is created."""
    if options.command == "gettoken" and cluster.is_meant(options):
        return cluster.run(options)
    base = of_tenant(options.tenant, "tokens")

    def ask(method: str, target: str, body: object = None) -> dict[str, Any]:
        return call_cloud(options.socket, method, target, body)

    match options.verb:
        case "create":
            body = {"node": options.node, "ttl": seconds(options.ttl), "replace": options.replace}
            if getattr(options, "join_key", False):
                body["joinKey"] = True
            answer = ask("POST", base, body)
            text = str(answer.get("token"))
        case "revoke":
            ask("DELETE", f"{base}/{urllib.parse.quote(options.id, safe='')}")
            answer, text = {"revoked": options.id}, f"token {options.id} is revoked"
        case _:
            answer = ask("GET", base)
            text = _table(answer["tokens"])
    print(as_json(answer) if options.output == "json" else text)
    return 0


def seconds(text: str) -> float:
    """ "30m" -> 1800.0; raises UsageError."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if not match:
        raise UsageError(f"{text!r} is not a duration", "write it like 30m, 24h or 7d")
    return int(match[1]) * _UNITS[match[2]]


def _table(tokens: list[dict[str, Any]]) -> str:
    rows = [
        (
            t["id"],
            "(boards)" if t.get("joinKey") else t["node"] or "(any)",
            t["state"],
            time.strftime("%Y-%m-%d %H:%M", time.localtime(t["expires"])),
            t["usedBy"] or "-",
        )
        for t in tokens
    ]
    return table(("ID", "NODE", "STATE", "EXPIRES", "USED BY"), rows)
