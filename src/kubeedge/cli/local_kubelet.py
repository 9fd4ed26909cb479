"""The kubelet API of the agent of this machine, through its control socket: which pods there are, and which of them is meant."""

from __future__ import annotations

import argparse
import sys
from typing import Any
from urllib.parse import quote, urlencode

from kubeedge.cli.control import call
from kubeedge.cli.errors import CommandError

PATH = "/kubelet"
_START = "start it with `kubeedge edge`"
_DEFAULT = "kubectl.kubernetes.io/default-container"


def pods(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Those of this node, of the namespace and name that the options say. Raises CommandError."""
    items: list[dict[str, Any]] = call(options.socket, "GET", f"{PATH}/pods", start=_START).get("items") or []
    found = [p for p in items if options.namespace in ("", p["metadata"]["namespace"])]
    if options.pod:
        name = options.pod.removeprefix("pods/").removeprefix("pod/")
        found = [p for p in found if p["metadata"]["name"] == name]
        if not found:
            where = f" in namespace {options.namespace}" if options.namespace else ""
            raise CommandError(f"no pod {name} is on this node{where}", "`kubeedge pods` lists them")
    return sorted(found, key=lambda p: (p["metadata"]["namespace"], p["metadata"]["name"]))


def pod(options: argparse.Namespace) -> dict[str, Any]:
    """The one that is meant. Raises CommandError."""
    found = pods(options)
    namespaces = sorted({p["metadata"]["namespace"] for p in found})
    if len(namespaces) > 1:
        raise CommandError(f"pod {options.pod} is in namespaces {', '.join(namespaces)}", "choose one with -n")
    return found[-1]


def containers(of: dict[str, Any]) -> list[str]:
    """The names of all its containers, those that do the work first."""
    spec = of.get("spec") or {}
    kinds = ("containers", "initContainers", "ephemeralContainers")
    return [str(c["name"]) for kind in kinds for c in spec.get(kind) or ()]


def container(of: dict[str, Any], named: str) -> str:
    """The one that is named, else the one that kubectl would take, which is said. Raises CommandError."""
    names = containers(of)
    if named:
        if names and named not in names:
            raise CommandError(f"container {named} is not in pod {of['metadata']['name']}: it has {', '.join(names)}")
        return named
    default = (of["metadata"].get("annotations") or {}).get(_DEFAULT)
    if default in names:
        return str(default)
    if not names:
        raise CommandError(f"the containers of pod {of['metadata']['name']} are not known any more", "name one with -c")
    if len(names) > 1:
        print(f'Defaulted container "{names[0]}" out of: {", ".join(names)}', file=sys.stderr)
    return names[0]


def target(verb: str, of: dict[str, Any], container: str, query: list[tuple[str, str]]) -> str:
    """A path of the kubelet API, as the control socket has it."""
    parts = (verb, of["metadata"]["namespace"], of["metadata"]["name"], container)
    return f"{PATH}/{'/'.join(quote(part, safe='') for part in parts)}" + (f"?{urlencode(query)}" if query else "")
