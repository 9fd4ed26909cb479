"""`kubeedge version`."""

from __future__ import annotations

import argparse
import platform

from kubeedge import __version__
from kubeedge.cli.show import as_json


def run(options: argparse.Namespace) -> int:
    """Exit status 0; asks no process."""
    if options.output == "json":
        print(as_json({"version": __version__, "python": platform.python_version(), "machine": platform.machine()}))
    else:
        print(f"kubeedge {__version__} (Python {platform.python_version()}, {platform.machine()})")
    return 0
