"""`kubeedge status`: what the process of this machine says of itself."""

from __future__ import annotations

import argparse

from kubeedge.cli.control import call, local_socket
from kubeedge.cli.show import as_json, tree


def run(options: argparse.Namespace) -> int:
    answer = call(local_socket(options.socket), "GET", "/v1/status", what="the process")
    print(as_json(answer) if options.output == "json" else tree(answer))
    return 0
