"""The arguments of `kubeedge board`, and those by which other commands have to do with boards."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

VERBS = (
    ("approve", "let boards join, whether they have asked already or not"),
    ("list", "list boards"),
    ("forget", "refuse boards that wait, and let others ask with another key"),
)


def add(verbs: Sequence[argparse.ArgumentParser]) -> Sequence[argparse.ArgumentParser]:
    """To the parsers of VERBS, in that order, which are returned."""
    approve, _, forget = verbs
    for verb in verbs:
        verb.add_argument("--tenant", default="default", help="tenant (default: default)")
    approve.add_argument("serials", metavar="SERIAL[=NAME]", nargs="*", help="without a name the node is card-SERIAL")
    approve.add_argument(
        "--file", metavar="FILE", help="a list, one board a line: SERIAL, or SERIAL NAME; '-' for standard input"
    )
    forget.add_argument("serials", metavar="SERIAL", nargs="+")
    return verbs


def add_to_join(parser: argparse.ArgumentParser) -> None:
    """`--serial`: the token is a join key."""
    parser.add_argument(
        "--serial", help="serial number of this board, where the token is a join key; the cloud says the node's name"
    )


def add_to_token(parser: argparse.ArgumentParser) -> None:
    """`--join-key`, of `token create`."""
    parser.add_argument(
        "--join-key", action="store_true", help="not for one node, but for all boards whose serial numbers are approved"
    )
