"""The command line of `kubeedge pods`, `logs` and `exec`: the options of kubectl. `kubeedge --help` imports this, so it imports nothing."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence


def add_commands(add: Callable[..., argparse.ArgumentParser], socket: str) -> None:
    """`add`: makes the parser of a command. `socket`: the agent's."""
    pods = add("pods", "pods", "the pods of this node, with or without the cloud", output=False)
    pods.add_argument("pod", nargs="?", metavar="POD", help="this one alone")
    pods.add_argument("-A", "--all-namespaces", action="store_true", help="of all namespaces, which is the default")
    pods.add_argument("-o", "--output", choices=("text", "wide", "json", "name"), default="text", help="output format")
    _common(pods, socket)

    logs = add("logs", "pod_logs", "what a container of this node has written", output=False)
    logs.add_argument("pod", metavar="POD")
    logs.add_argument("name", nargs="?", metavar="CONTAINER", help="as with --container")
    _container(logs)
    logs.add_argument("--all-containers", action="store_true", help="of all containers of the pod, one after the other")
    logs.add_argument("--prefix", action="store_true", help="begin each line with pod and container")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the container ends")
    logs.add_argument("-p", "--previous", action="store_true", help="of its run before this one")
    logs.add_argument("--tail", type=int, metavar="LINES", help="only the last lines")
    logs.add_argument("--since", metavar="TIME", help="only what is newer than 5s, 2m or 3h")
    logs.add_argument("--since-time", metavar="DATE", help="only what is newer than this date (RFC 3339)")
    logs.add_argument("--timestamps", action="store_true", help="begin each line with its time")
    logs.add_argument("--limit-bytes", type=int, metavar="BYTES", help="no more than that")
    _common(logs, socket)

    exec_ = add("exec", "pod_exec", "run a command in a container of this node; its exit status is ours", output=False)
    exec_.add_argument("pod", metavar="POD")
    exec_.usage = "kubeedge exec [options] POD -- COMMAND [ARGUMENT ...]"
    _container(exec_)
    exec_.add_argument("-i", "--stdin", action="store_true", help="give it our standard input")
    exec_.add_argument("-t", "--tty", action="store_true", help="give it a terminal")
    _common(exec_, socket)
    _leave_the_command(exec_)


def _leave_the_command(parser: argparse.ArgumentParser) -> None:
    """What stands behind "--" goes into `words` as it is: argparse would look for options in it, or not, by what stands before."""
    parse = parser.parse_known_args

    def parse_known_args(
        args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        given = list(args or ())
        at = given.index("--") if "--" in given else len(given)
        found, unknown = parse(given[:at], namespace)
        found.words = given[at + 1 :]
        return found, unknown

    parser.parse_known_args = parse_known_args  # type: ignore[method-assign,assignment]


def _container(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--container", default="", help="which container of the pod (default: the first one)")


def _common(parser: argparse.ArgumentParser, socket: str) -> None:
    parser.add_argument("-n", "--namespace", default="", help="of this namespace (default: wherever it is)")
    parser.add_argument("--socket", default=socket, help=f"the agent's unix socket (default: {socket})")
