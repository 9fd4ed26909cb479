"""`kubeedge image import|list`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from kubeedge.cli.control import call

_START = "start it with `kubeedge edge`"


def run(options: argparse.Namespace) -> int:
    if options.verb == "import":
        body = {"path": str(Path(options.archive).resolve()), "names": options.names}
        answer = call(options.socket, "POST", "/v1/images/import", body, start=_START)
        print("\n".join(answer["names"]))
        return 0
    answer = call(options.socket, "GET", "/v1/images", start=_START)
    if options.output == "json":
        print(json.dumps(answer))
    else:
        for image in answer["images"]:
            print(image)
    return 0
