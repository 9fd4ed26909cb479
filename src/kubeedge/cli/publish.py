"""`kubeedge publish NAME PORT`: a web service of this node under the cloud's public name.

`--access public|tenant|token` says who may use it, `--new-token` and `--revoke-tokens` who holds a key, `--list` shows all, `--remove` ends one.
"""

from __future__ import annotations

import argparse
from typing import Any

from kubeedge.api.names import node_name
from kubeedge.cli.control import call
from kubeedge.cli.errors import UsageError
from kubeedge.cli.show import as_json, table
from kubeedge.config import forms
from kubeedge.errors import Invalid

_START = "start it with `kubeedge edge`"


def run(options: argparse.Namespace) -> int:
    """Exit status 0. Raises UsageError for a name that is no RFC 1123 label or for options that exclude each other."""
    if options.list:
        if options.name:
            raise UsageError("--list takes no name", "kubeedge publish --list")
        return _list(options)
    if options.name is None:
        raise UsageError("which service?", "kubeedge publish NAME PORT, or kubeedge publish --list")
    try:
        name = node_name(options.name)  # the same rule: a label
    except Invalid as exc:
        raise UsageError(f"service name {options.name!r} is not an RFC 1123 label") from exc
    if (options.target or options.access) and (options.remove or options.new_token or options.revoke_tokens):
        raise UsageError("change the service first, its tokens in a second step", "kubeedge publish NAME --new-token")
    answer, text = _change(options, name)
    print(as_json(answer) if options.output == "json" else text)
    return 0


def _change(options: argparse.Namespace, name: str) -> tuple[dict[str, Any], str]:
    """What the agent answered, and the text to print."""

    def ask(method: str, path: str, body: object = None) -> dict[str, Any]:
        return call(options.socket, method, path, body, start=_START)

    if options.remove:
        return ask("DELETE", f"/v1/webservices/{name}"), f"{name} is unpublished"
    if options.new_token:
        answer = ask("POST", f"/v1/webservices/{name}/tokens", {})
        return answer, str(answer.get("token"))
    if options.revoke_tokens:
        return ask("DELETE", f"/v1/webservices/{name}/tokens"), f"all access tokens of {name} are revoked"
    body = {"name": name}
    if options.target:
        body["target"] = _target(options.target, name)
    elif not options.access:
        raise UsageError("where does it listen?", f"kubeedge publish {name} 8080")
    if options.access:
        body["access"] = options.access
    answer = ask("POST", "/v1/webservices", body)
    access = answer.get("access", "public")
    text = f"published {answer.get('target', body.get('target', name))} as {answer.get('path', name)}"
    text += {"tenant": " for nodes of the tenant", "token": " for holders of a token"}.get(str(access), "")
    if token := answer.get("token"):
        text += f"\ntoken, shown this once: {token}"
    return answer, text


def _list(options: argparse.Namespace) -> int:
    answer = call(options.socket, "GET", "/v1/webservices", start=_START)
    columns = ("name", "target", "access", "by", "path")
    rows = [[service.get(column, "") for column in columns] for service in answer.get("services", ())]
    print(as_json(answer) if options.output == "json" else table([c.upper() for c in columns], rows))
    return 0


def _target(text: str, name: str) -> str:
    target = f"127.0.0.1:{text}" if text.isdigit() else text
    try:
        forms.endpoint(target)
    except ValueError as exc:
        raise UsageError(f"{text!r} is not PORT or HOST:PORT", f"kubeedge publish {name} 8080") from exc
    return target
