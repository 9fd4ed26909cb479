"""`kubeedge version`."""

from __future__ import annotations

import argparse
import platform

from kubeedge import __version__
from kubeedge.cli.show import as_json


def run(options: argparse.Namespace) -> int:
    """Exit status 0; asks no process."""
    known = {"version": __version__, "python": platform.python_version(), "machine": platform.machine()}
    if options.output == "json":
        print(as_json(known))
    elif options.output == "yaml":
        print("\n".join(f"{key}: {as_json(value)}" for key, value in known.items()))
    elif options.output == "short":
        print(__version__)
    else:
        print(f"kubeedge {__version__} (Python {platform.python_version()}, {platform.machine()})")
    return 0
