"""`kubeedge node remove`: a machine that is lost, stolen or retired is no node any more. In the cloud."""

from __future__ import annotations

import argparse
import urllib.parse

from kubeedge.cli.control import call
from kubeedge.cli.show import as_json

_START = "start it with `kubeedge cloud`, or name its socket with --socket"


def run(options: argparse.Namespace) -> int:
    tenant, node = (urllib.parse.quote(text, safe="") for text in (options.tenant, options.node))
    answer = call(options.socket, "DELETE", f"/v1/tenants/{tenant}/nodes/{node}", what="the cloud", start=_START)
    print(
        as_json(answer)
        if options.output == "json"
        else f"node {answer['node']} of tenant {answer['tenant']} is removed"
    )
    return 0
