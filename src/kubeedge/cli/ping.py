"""`kubeedge ping NODE`: round trips of an L4 connection to a node, and of the hop to the relay."""

from __future__ import annotations

import argparse
import urllib.parse
from typing import Any

from kubeedge.cli.control import call, local_socket
from kubeedge.cli.errors import UsageError
from kubeedge.cli.show import as_json, ms


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when at least one answer came, else 1. Raises UsageError for a count or interval out of range."""
    if not 1 <= options.count <= 1000 or not 0.01 <= options.interval <= 60:
        raise UsageError("count is from 1 to 1000, interval from 0.01 to 60 seconds")
    target = f"/v1/ping?tenant={urllib.parse.quote(options.tenant, safe='')}"
    body = {"node": options.node, "count": options.count, "interval": options.interval}
    timeout = 30 + options.count * (options.interval + 2.0)
    answer = call(local_socket(options.socket), "POST", target, body, what="the process", timeout=timeout)
    answer |= summary(answer["times"])
    print(as_json(answer) if options.output == "json" else _text(answer))
    return 0 if answer["received"] else 1


def summary(times: list[float | None]) -> dict[str, Any]:
    """The summary of a run: packets sent and received; min, avg and max in seconds."""
    got = [t for t in times if t is not None]
    return {
        "sent": len(times),
        "received": len(got),
        "min": min(got) if got else None,
        "avg": sum(got) / len(got) if got else None,
        "max": max(got) if got else None,
    }


def _text(answer: dict[str, Any]) -> str:
    lines = [f"{answer['node']}: {ms(t)}" if t is not None else f"{answer['node']}: no answer" for t in answer["times"]]
    lines.append(f"{answer['sent']} sent, {answer['received']} received")
    if answer["received"]:
        lines.append(f"round trip min/avg/max {ms(answer['min'])}/{ms(answer['avg'])}/{ms(answer['max'])}")
    relay = answer.get("relay") or {}
    if relay:
        where = " ".join(str(relay[key]) for key in ("name", "address") if relay.get(key) not in (None, "", "relay"))
        lines.append(
            f"through relay {where or '(this one)'}: {ms(relay['rtt']) if relay.get('rtt') else 'not measured yet'}"
        )
    return "\n".join(lines)
