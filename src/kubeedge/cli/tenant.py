"""`kubeedge tenant create|list`."""

from __future__ import annotations

import argparse

from kubeedge.cli.control import call
from kubeedge.cli.show import as_json

_START = "start it with `kubeedge cloud`, or name its socket with --socket"


def run(options: argparse.Namespace) -> int:
    if options.verb == "create":
        answer = call(options.socket, "POST", "/v1/tenants", {"name": options.name}, what="the cloud", start=_START)
        print(as_json(answer) if options.output == "json" else f"tenant {answer['name']} exists")
    else:
        answer = call(options.socket, "GET", "/v1/tenants", what="the cloud", start=_START)
        print(as_json(answer) if options.output == "json" else "\n".join(answer["tenants"]))
    return 0
