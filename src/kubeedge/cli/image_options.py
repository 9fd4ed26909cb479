"""The command `kubeedge image-update` and its options."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """`add` makes a command: its name, its module, a sentence about it."""
    p = add(
        "image-update",
        "image_update",
        "update the image of a machine that was started from a card, or show its two slots",
    )
    p.add_argument(
        "source",
        nargs="?",
        metavar="FILE|URL",
        help="the bundle, '-': a line of standard input says which; without one the slots are shown",
    )
    p.add_argument("--allow-older", action="store_true", help="take a bundle that is older than what runs")
    p.add_argument("--again", action="store_true", help="try a bundle again that was given up")
    p.add_argument("--tries", type=int, default=3, help="starts before it is given up (default: %(default)d)")
    p.add_argument(
        "--no-restart", dest="restart", action="store_false", help="it is tried at the next start, whenever that is"
    )
