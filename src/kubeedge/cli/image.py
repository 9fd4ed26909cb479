"""`kubeedge image import|list`."""

from __future__ import annotations

import argparse
from pathlib import Path

from kubeedge.cli.control import call
from kubeedge.cli.errors import UsageError
from kubeedge.cli.show import as_json

_START = "start it with `kubeedge edge`"
_IMPORT_TIMEOUT = 600.0  # seconds; a large archive on a slow card


def run(options: argparse.Namespace) -> int:
    """Exit status 0. Raises UsageError for an archive that is no file, CommandError with the agent's words when an import fails."""
    if options.verb == "import":
        path = Path(options.archive).resolve()
        if not path.is_file():
            raise UsageError(f"{path} is not a file")
        body = {"path": str(path), "names": options.names}
        answer = call(options.socket, "POST", "/v1/images/import", body, start=_START, timeout=_IMPORT_TIMEOUT)
        print(as_json(answer) if options.output == "json" else "\n".join(answer["names"]))
        return 0
    answer = call(options.socket, "GET", "/v1/images", start=_START)
    if options.output == "json":
        print(as_json(answer))
    else:
        for image in answer["images"]:
            print(image)
    return 0
