"""`kubeedge token create|list|revoke`."""

from __future__ import annotations

import argparse
import json
import re
import time

from kubeedge.cli.control import CommandError, call

_START = "start it with `kubeedge cloud`, or name its socket with --socket"
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def run(options: argparse.Namespace) -> int:
    tenant = getattr(options, "tenant", "default")
    base = f"/v1/tenants/{tenant}/tokens"

    def ask(method: str, target: str, body: object = None) -> dict[str, object]:
        answer: dict[str, object] = call(options.socket, method, target, body, what="the cloud", start=_START)
        return answer

    as_json = getattr(options, "output", "text") == "json"
    match options.verb:
        case "create":
            ttl = seconds(getattr(options, "ttl", "24h"))
            body = {"node": getattr(options, "node", ""), "ttl": ttl, "replace": getattr(options, "replace", False)}
            answer = ask("POST", base, body)
            print(json.dumps(answer) if as_json else answer["token"])
        case "revoke":
            ask("DELETE", f"{base}/{options.id}")
            print(json.dumps({"revoked": options.id}) if as_json else f"token {options.id} is worthless now")
        case _:
            answer = ask("GET", base)
            if as_json:
                print(json.dumps(answer))
            else:
                print(table(answer["tokens"]))
    return 0


def seconds(text: str) -> float:
    """ "30m" -> 1800.0; raises CommandError."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if not match:
        raise CommandError(f"{text!r} is not a duration", "write it like 30m, 24h or 7d")
    return int(match[1]) * _UNITS[match[2]]


def table(tokens: object) -> str:
    rows = [("ID", "NODE", "STATE", "EXPIRES", "USED BY")]
    assert isinstance(tokens, list)
    for t in tokens:
        expires = time.strftime("%Y-%m-%d %H:%M", time.localtime(t["expires"]))
        rows.append((t["id"], t["node"] or "(any)", t["state"], expires, t["usedBy"] or "-"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("   ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
