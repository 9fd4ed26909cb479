"""`kubeedge status`: what the process of this machine says of itself."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from kubeedge.cli.control import CommandError, call
from kubeedge.cli.main import CLOUD_SOCKET, EDGE_SOCKET


def run(options: argparse.Namespace) -> int:
    paths = [options.socket] if options.socket else [p for p in (EDGE_SOCKET, CLOUD_SOCKET) if Path(p).exists()]
    if not paths:
        raise CommandError(
            "neither an agent nor a cloud runs here", "start one with `kubeedge edge` or `kubeedge cloud`"
        )
    answer = call(paths[0], "GET", "/v1/status")
    if options.output == "json":
        print(json.dumps(answer))
    else:
        _show(answer, "")
    return 0


def _show(value: dict[str, Any], indent: str) -> None:
    for name, item in value.items():
        if isinstance(item, dict):
            print(f"{indent}{name}:")
            _show(item, indent + "  ")
        elif isinstance(item, list):
            print(f"{indent}{name}:")
            for entry in item:
                line = (
                    "  ".join(f"{k}={v}" for k, v in entry.items() if v not in ("", None, 0))
                    if isinstance(entry, dict)
                    else entry
                )
                print(f"{indent}  {line}")
        else:
            print(f"{indent}{name}: {item}")
