"""`kubeedge publish NAME PORT`: a web service of this node under the cloud's public name."""

from __future__ import annotations

import argparse
import re

from kubeedge.api.names import node_name
from kubeedge.cli.control import CommandError, call

_START = "start it with `kubeedge edge`"


def run(options: argparse.Namespace) -> int:
    name = node_name(options.name)  # the same rule: a label
    if options.remove:
        call(options.socket, "DELETE", f"/v1/webservices/{name}", start=_START)
        print(f"{name} is published no longer")
        return 0
    match = re.fullmatch(r"(?:([\w.-]+):)?(\d{1,5})", options.target or "")
    if not match or not 0 < int(match[2]) < 65536:
        raise CommandError(f"{options.target!r} is not a port", f"kubeedge publish {name} 8080")
    target = f"{match[1] or '127.0.0.1'}:{match[2]}"
    answer = call(options.socket, "POST", "/v1/webservices", {"name": name, "target": target}, start=_START)
    print(f"published {target} as {answer['path']}")
    return 0
