"""`kubeedge status`: what the process of this machine says of itself."""

from __future__ import annotations

import argparse
from pathlib import Path

from kubeedge.cli.control import call
from kubeedge.cli.errors import CommandError
from kubeedge.cli.main import CLOUD_SOCKET, EDGE_SOCKET
from kubeedge.cli.show import as_json, tree


def run(options: argparse.Namespace) -> int:
    paths = [options.socket] if options.socket else [p for p in (EDGE_SOCKET, CLOUD_SOCKET) if Path(p).exists()]
    if not paths:
        raise CommandError(
            "neither an agent nor a cloud runs here", "start one with `kubeedge edge` or `kubeedge cloud`"
        )
    answer = call(paths[0], "GET", "/v1/status", what="the process")
    print(as_json(answer) if options.output == "json" else tree(answer))
    return 0
