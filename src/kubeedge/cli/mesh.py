"""`kubeedge mesh services|endpoints|policies|dns|trace`: Services on this node, and policies of its pods."""

from __future__ import annotations

import argparse
from typing import Any
from urllib.parse import quote

from kubeedge.cli.control import call
from kubeedge.cli.show import as_json, table, tree


def run(options: argparse.Namespace) -> int:
    """Exit status 0. Raises CommandError when no agent answers, or the Service is not known here."""
    path = f"/v1/mesh/{options.verb}"
    if options.verb == "trace":
        path += f"/{quote(options.service)}"
    answer = call(options.socket, "GET", path)
    print(as_json(answer) if options.output == "json" else _text(options.verb, answer))
    return 0


def _text(verb: str, answer: dict[str, Any]) -> str:
    match verb:
        case "services":
            header = ("SERVICE", "TYPE", "ADDRESSES", "PORTS", "READY")
            keys = ("service", "type", "addresses", "ports", "endpoints")
            lines = [table(header, _rows(keys, answer["services"]))]
            lines += [f"{name}: {why}" for name, why in answer["refused"].items()]
            return "\n".join([*lines, *([answer["problem"]] if answer["problem"] else ())])
        case "policies":
            rows = _rows(("policy", "directions", "pods"), answer["policies"])
            lines = [table(("POLICY", "DIRECTIONS", "PODS"), rows)]
            lines += [f"{name}: {why}" for name, why in answer["refused"].items()]
            return "\n".join([*lines, *([answer["problem"]] if answer["problem"] else ())])
        case "endpoints":
            return table(
                ("SERVICE", "ADDRESS", "PORTS", "NODE", "STATE", "FROM"),
                _rows(("service", "address", "ports", "node", "state", "from"), answer["endpoints"]),
            )
    return tree(answer)


def _rows(keys: tuple[str, ...], entries: list[dict[str, Any]]) -> list[list[str]]:
    return [[_cell(entry[key]) for key in keys] for entry in entries]


def _cell(value: object) -> str:
    return ",".join(map(str, value)) or "-" if isinstance(value, list) else str(value) or "-"
