"""`kubeedge publish NAME PORT`: a web service of this node under the cloud's public name; `--list` shows them, `--remove` ends one."""

from __future__ import annotations

import argparse

from kubeedge.api.names import node_name
from kubeedge.cli.control import call
from kubeedge.cli.errors import UsageError
from kubeedge.cli.show import as_json, table
from kubeedge.config import forms
from kubeedge.errors import Invalid

_START = "start it with `kubeedge edge`"


def run(options: argparse.Namespace) -> int:
    if options.list:
        if options.name or options.remove:
            raise UsageError("--list takes no name", "kubeedge publish --list")
        return _list(options)
    if options.name is None:
        raise UsageError("which service?", "kubeedge publish NAME PORT, or kubeedge publish --list")
    try:
        name = node_name(options.name)  # the same rule: a label
    except Invalid as exc:
        raise UsageError(f"service name {options.name!r} is not an RFC 1123 label") from exc
    if options.remove:
        answer = call(options.socket, "DELETE", f"/v1/webservices/{name}", start=_START)
        text = f"{name} is published no longer"
    else:
        target = _target(options.target, name)
        answer = call(options.socket, "POST", "/v1/webservices", {"name": name, "target": target}, start=_START)
        text = f"published {target} as {answer.get('path', name)}"
    print(as_json(answer) if options.output == "json" else text)
    return 0


def _list(options: argparse.Namespace) -> int:
    answer = call(options.socket, "GET", "/v1/webservices", start=_START)
    columns = ("name", "target", "by", "path")
    rows = [[service.get(column, "") for column in columns] for service in answer.get("services", ())]
    print(as_json(answer) if options.output == "json" else table([c.upper() for c in columns], rows))
    return 0


def _target(text: str | None, name: str) -> str:
    target = f"127.0.0.1:{text}" if (text or "").isdigit() else text or ""
    try:
        forms.endpoint(target)
    except ValueError as exc:
        raise UsageError(f"{text or ''!r} is not PORT or HOST:PORT", f"kubeedge publish {name} 8080") from exc
    return target
