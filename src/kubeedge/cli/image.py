"""`kubeedge image import|list|pull|rm|prune|save`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from kubeedge.cli.control import call
from kubeedge.cli.errors import UsageError
from kubeedge.cli.show import amount, as_json, table

_START = "start it with `kubeedge edge`"
_LONG = 6 * 3600.0  # seconds; a large image over a slow line, a large archive on a slow card
_PASSWORD = "KUBEEDGE_REGISTRY_PASSWORD"  # of the environment: arguments are seen by every user of the machine


def run(options: argparse.Namespace) -> int:
    """Exit status 0. Raises UsageError for an archive that is no file, CommandError with the agent's words when it fails."""
    match options.verb:
        case "list":
            answer = call(options.socket, "GET", "/v1/images", start=_START)
            text = _listing(answer)
        case "import":
            path = Path(options.archive).resolve()
            if not path.is_file():
                raise UsageError(f"{path} is not a file")
            answer = _post(options, "import", {"path": str(path), "names": options.names})
            text = "\n".join(answer.get("names", ()))
        case "pull":
            password = os.environ.get(_PASSWORD, "") if options.user else ""
            answer = _post(options, "pull", {"name": options.name, "user": options.user, "password": password})
            text = str(answer.get("id", ""))
        case "rm":
            answer = _post(options, "remove", {"name": options.name})
            text = f"removed {options.name}"
        case "save":
            answer = _post(options, "save", {"name": options.name, "path": str(Path(options.archive).absolute())})
            text = f"saved {options.name} in {options.archive}"
        case _:
            answer = _post(options, "prune", {})
            text = "\n".join([*answer.get("removed", ()), f"{amount(answer.get('bytes', 0))} freed"])
    if options.output == "json":
        print(as_json(answer))
    elif text:
        print(text)
    return 0


def _post(options: argparse.Namespace, verb: str, body: dict[str, Any]) -> dict[str, Any]:
    return call(options.socket, "POST", f"/v1/images/{verb}", body, start=_START, timeout=_LONG)


def _listing(answer: dict[str, Any]) -> str:
    rows = [
        [name, row["id"].removeprefix("sha256:")[:12], amount(row["size"]), "yes" if row["inUse"] else ""]
        for row in answer.get("details", ())
        for name in row["names"]
    ]
    return table(["IMAGE", "ID", "SIZE", "IN USE"], rows) if rows else "\n".join(answer["images"])
