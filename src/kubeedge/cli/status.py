"""`kubeedge status`: what the process of this machine reports of itself."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from kubeedge.cli.control import call, local_socket
from kubeedge.cli.links import link_table
from kubeedge.cli.show import as_json, tree


def run(options: argparse.Namespace) -> int:
    """Exit status 0 when the process answers, whatever the state of its modules. Raises CommandError when none does."""
    answer = call(local_socket(options.socket), "GET", "/v1/status", what="the process")
    print(as_json(answer) if options.output == "json" else _text(answer))
    return 0


def _text(answer: dict[str, Any]) -> str:
    links = answer.get("links")
    text = tree({name: item for name, item in answer.items() if name != "links"})
    return text + ("\nlinks:\n" + textwrap.indent(link_table(links), "  ") if links else "")
