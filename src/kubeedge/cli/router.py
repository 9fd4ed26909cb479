"""`kubeedge router allow|list`: which networks may be behind which node of a tenant. In the cloud."""

from __future__ import annotations

import argparse
import urllib.parse

from kubeedge.cli.control import call_cloud
from kubeedge.cli.show import as_json, table


def run(options: argparse.Namespace) -> int:
    """Exit status 0. Raises CommandError with the cloud's words when it refuses."""
    target = f"/v1/routers?tenant={urllib.parse.quote(options.tenant, safe='')}"
    if options.verb == "allow":
        body = {"node": options.node, "subnets": options.subnets}
        answer = call_cloud(options.socket, "POST", target, body)
        text = f"behind {answer['node']}: {', '.join(answer['subnets']) or 'nothing'}"
    else:
        answer = call_cloud(options.socket, "GET", target)
        text = table(("NODE", "SUBNETS"), [(node, ", ".join(nets)) for node, nets in answer["routers"].items()])
    print(as_json(answer) if options.output == "json" else text)
    return 0
