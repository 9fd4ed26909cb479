"""`kubeedge sync status`: how far both directions are, as the agent or the cloud process of this machine sees it."""

from __future__ import annotations

import argparse
from pathlib import Path
from urllib.parse import urlencode

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
    query = {name: value for name in ("tenant", "node") if (value := getattr(options, name))}
    answer = call(paths[0], "GET", "/v1/sync" + (f"?{urlencode(query)}" if query else ""), what="the process")
    print(as_json(answer) if options.output == "json" else tree(answer))
    return 0
