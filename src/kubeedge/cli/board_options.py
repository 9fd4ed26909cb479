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
    approve.add_argument(
        "--key",
        default="",
        help="how the key begins that is the board's, where two machines ask with its serial number",
    )
    approve.add_argument(
        "--from",
        dest="network",
        default="",
        metavar="NETWORK",
        help="it may ask from there alone, such as 192.0.2.0/24",
    )
    forget.add_argument("serials", metavar="SERIAL", nargs="*")
    forget.add_argument("--prefix", default="", help="all whose serial numbers begin so")
    forget.add_argument(
        "--state", default="", choices=("waiting", "expected", "approved", "contested"), help="all in that state"
    )
    forget.add_argument("--all", action="store_true", help="all of the tenant")
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
