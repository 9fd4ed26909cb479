"""`kubeedge links`: on an edge its links to a relay, in the cloud those of its nodes and of other relays."""

from __future__ import annotations

import argparse
from typing import Any

from kubeedge.cli.control import call, local_socket
from kubeedge.cli.show import amount, as_json, ms, table


def run(options: argparse.Namespace) -> int:
    """Exit status 0. Raises CommandError when neither an agent nor a cloud process answers."""
    answer = call(local_socket(options.socket), "GET", "/v1/links", what="the process")
    print(as_json(answer) if options.output == "json" else _text(answer))
    return 0


def link_table(links: list[dict[str, Any]]) -> str:
    """The links of an answer, one row each."""
    edge = not any("tenant" in link for link in links)
    who = ("SLOT", "RELAY") if edge else ("NODE", "SLOT")
    header = (*who, "STATE", "SECONDS", "RTT", "TCP", "IN", "OUT", "QUEUED", "DROPS")
    rows = []
    for link in links:
        first = (link["slot"], link["relay"]) if edge else (f"{link['tenant']}/{link['node']}", link["slot"])
        rtt = link.get("rtt") or link.get("tcpRtt")
        drops = ", ".join(f"{reason} {count}" for reason, count in (link.get("drops") or {}).items())
        rows.append(
            (*first, link["state"], link["seconds"], ms(rtt) if rtt else "-", link["congestion"] or "-",
             amount(link.get("rxBytes", 0)), amount(link.get("txBytes", 0)), amount(link.get("queuedBytes", 0)), drops or "-")
        )  # fmt: skip
    return table(header, rows)


def _text(answer: dict[str, Any]) -> str:
    edge = "relays" not in answer
    lines = [link_table(answer["links"])]
    if edge and not any(link["state"] != "opening" for link in answer["links"]):
        lines = [f"no link to a relay: {answer.get('lastError') or 'none answers yet'}"]
    lines += [f"{link['tenant']}/{link['node']}: {link['problem']}" for link in answer["links"] if link.get("problem")]
    lines += answer.get("problems", ())
    if edge and lines and answer.get("lastError") and len(lines) == 1 and answer.get("up"):
        lines.append(f"last failure: {answer['lastError']}")
    if answer.get("relays"):
        relays = [(r["relay"], ", ".join(r["addresses"]), r["state"], ms(r["rtt"]) if r["rtt"] else "-", r["nodes"])
                  for r in answer["relays"]]  # fmt: skip
        lines += ["", table(("OTHER RELAY", "ADDRESSES", "STATE", "RTT", "NODES"), relays)]
    return "\n".join(lines)
