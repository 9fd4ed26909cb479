"""The table of commands."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

DEFAULT_CONFIG = "/etc/kubeedge/kubeedge.yaml"
CLOUD_SOCKET = "/run/kubeedge/cloud.sock"
EDGE_SOCKET = "/run/kubeedge/edge.sock"


def _parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(
        prog="kubeedge", description="Kubernetes nodes behind NAT: the edge agent, the cloud side, and their tools."
    )
    commands = program.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)

    def command(name: str, module: str, summary: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=summary, description=summary)
        parser.set_defaults(module=module)
        return parser

    def output(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print")

    p = command("cloud", "run", "run the cloud side in the foreground")
    p.add_argument("--config", help=f"configuration file (default: {DEFAULT_CONFIG} if it exists)")
    p.add_argument("--default-config", action="store_true", help="print the default configuration and end")

    p = command("edge", "run", "run the agent of this node in the foreground")
    p.add_argument("--config", help="configuration file (default: ROOT/etc/kubeedge/kubeedge.yaml)")
    p.add_argument("--root-dir", default="/", help="keep everything below another directory (default: /)")
    p.add_argument("--default-config", action="store_true", help="print the default configuration and end")

    p = command("join", "join", "make this machine a node: get a certificate with a token")
    p.add_argument("cloud", metavar="HOST[:PORT]", help="the cloud's bootstrap address (default port 10002)")
    token = p.add_mutually_exclusive_group(required=True)
    token.add_argument("--token", help="bootstrap token (visible to other users of this machine; prefer --token-file)")
    token.add_argument("--token-file", help="file with the token, '-' for standard input")
    p.add_argument("--name", help="name of the node (default: the host name)")
    p.add_argument("--root-dir", default="/", help="keep everything below another directory (default: /)")
    p.add_argument("--force", action="store_true", help="replace the credentials of an earlier join")
    p.add_argument("--run", action="store_true", help="then run the agent in the foreground")

    for name in ("token", "gettoken"):
        p = command(name, "token", "bootstrap tokens" if name == "token" else "print a new bootstrap token")
        p.add_argument("--socket", default=CLOUD_SOCKET, help=argparse.SUPPRESS)
        verbs = p.add_subparsers(title="verbs", metavar="VERB", dest="verb", required=name == "token")
        if name == "gettoken":
            p.set_defaults(verb="create")
        for verb, summary in (("create", "make one"), ("list", "show them"), ("revoke", "make one worthless")):
            v = verbs.add_parser(verb, help=summary, description=summary)
            v.add_argument("--tenant", default="default")
            v.add_argument("--socket", default=CLOUD_SOCKET, help="the cloud's unix socket")
            if verb == "create":
                v.add_argument("--node", default="", help="the only name that it is good for (default: any)")
                v.add_argument("--ttl", default="24h", help="how long it may be used: 30m, 24h, 7d (default: 24h)")
                v.add_argument("--replace", action="store_true", help="it may take the place of a node that exists")
            if verb == "revoke":
                v.add_argument("id", help="the six characters between the dots")
            output(v)

    p = command("tenant", "tenant", "tenants of this cloud")
    verbs = p.add_subparsers(title="verbs", metavar="VERB", dest="verb", required=True)
    for verb, summary in (("create", "make one"), ("list", "show them")):
        v = verbs.add_parser(verb, help=summary, description=summary)
        v.add_argument("--socket", default=CLOUD_SOCKET, help="the cloud's unix socket")
        if verb == "create":
            v.add_argument("name")
        output(v)

    p = command("status", "status", "what the agent (or the cloud process) of this machine is doing")
    p.add_argument("--socket", help=f"unix socket (default: {EDGE_SOCKET}, or {CLOUD_SOCKET})")
    output(p)

    p = command("publish", "publish", "publish a web service of this node")
    p.add_argument("name", help="its name in the URL: http://HOST/TENANT/NODE/NAME/")
    p.add_argument("target", nargs="?", help="PORT or HOST:PORT where it listens")
    p.add_argument("--remove", action="store_true", help="publish it no longer")
    p.add_argument("--socket", default=EDGE_SOCKET, help="the agent's unix socket")

    p = command("image", "image", "container images of this node")
    verbs = p.add_subparsers(title="verbs", metavar="VERB", dest="verb", required=True)
    v = verbs.add_parser(
        "import", help="import an OCI or docker archive", description="import an OCI or docker archive"
    )
    v.add_argument("archive")
    v.add_argument("names", nargs="*", help="further names for it")
    v.add_argument("--socket", default=EDGE_SOCKET, help="the agent's unix socket")
    v = verbs.add_parser("list", help="show them", description="show them")
    v.add_argument("--socket", default=EDGE_SOCKET, help="the agent's unix socket")
    output(v)

    p = command("reset", "reset", "undo join: stop the agent, remove its pods, state and credentials")
    p.add_argument("--root-dir", default="/", help="the directory that was given to join (default: /)")
    p.add_argument("--force", action="store_true", help="do not ask")

    p = command("version", "version", "print the version")
    output(p)
    return program


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 it failed (and why), 2 wrong usage."""
    options = _parser().parse_args(argv)
    module = importlib.import_module(f"kubeedge.cli.{options.module}")
    try:
        status: int = module.run(options)
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
    except Exception as exc:
        from kubeedge.errors import KubeEdgeError

        if not isinstance(exc, KubeEdgeError | OSError):
            raise
        print(f"kubeedge {options.command}: {exc}", file=sys.stderr)
        if hint := getattr(exc, "next", None):
            print(f"next: {hint}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
