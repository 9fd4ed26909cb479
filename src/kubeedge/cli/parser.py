"""The command line: commands, their options and their help. What a command does is in the module that its row names.

Called as `keadm`, the program offers what keadm users know: init, upgrade, manifest, debug, join, gettoken, reset, version.
"""

from __future__ import annotations

import argparse

from kubeedge.cli import board_options, cluster_options, device_options, image_options, pod_options

DEFAULT_CLOUD_CONFIG = "/etc/kubeedge/cloud.yaml"
CLOUD_SOCKET = "/run/kubeedge/cloud.sock"
EDGE_SOCKET = "/run/kubeedge/edge.sock"


class _Commands:
    """argparse, with what every command of ours has."""

    def __init__(self, program: argparse.ArgumentParser) -> None:
        self._commands = program.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)

    def add(self, name: str, module: str, summary: str, *, output: bool = True) -> argparse.ArgumentParser:
        parser = self._commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        parser.set_defaults(module=module)
        if output:
            _output(parser)
        return parser


def _output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="output format")


def _verbs(parser: argparse.ArgumentParser, *verbs: tuple[str, str]) -> list[argparse.ArgumentParser]:
    table = parser.add_subparsers(title="verbs", metavar="VERB", dest="verb", required=True)
    made = [table.add_parser(verb, help=summary, description=summary, allow_abbrev=False) for verb, summary in verbs]
    for verb in made:
        _output(verb)
    return made


def _socket(parser: argparse.ArgumentParser, path: str, whose: str) -> None:
    parser.add_argument("--socket", default=path, help=f"{whose} unix socket (default: {path})")


def _root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root-dir", default="/", help="keep everything below another directory (default: /)")


def _add_runners(commands: _Commands) -> None:
    p = commands.add("cloud", "run", "run the cloud side in the foreground", output=False)
    p.add_argument("--config", help=f"configuration file (default: {DEFAULT_CLOUD_CONFIG} if it exists)")
    p.add_argument(
        "--relay-address", metavar="HOST:PORT", help="where other relays reach this one (default: relays.addresses)"
    )
    p.add_argument(
        "--kubelet-address",
        metavar="HOST",
        help="where API servers of clusters reach the kubelet ports (default: kubelets.nodeAddress)",
    )
    p.add_argument("--default-config", "--defaultconfig", action="store_true", help="print the default configuration")
    p.add_argument(
        "--new-authority", action="store_true", help="accept a new certificate authority; every node has to join again"
    )

    p = commands.add(
        "vm-routes",
        "run",
        "on a machine of a cluster: keep the routes to edge nodes, by way of the virtual router's machine",
        output=False,
    )
    cluster_options.add_vm_routes(p)

    p = commands.add("edge", "run", "run the agent of this node in the foreground", output=False)
    p.add_argument("--config", help="configuration file (default: ROOT/etc/kubeedge/kubeedge.yaml)")
    _root(p)
    p.add_argument("--default-config", "--defaultconfig", action="store_true", help="print the default configuration")


def _add_init(commands: _Commands) -> None:
    p = commands.add(
        "init",
        "init",
        "make this machine the cloud side (configuration and service), or install it into the cluster of --kube-config",
        output=False,
    )
    p.add_argument(
        "--advertise",
        "--advertise-address",
        action="append",
        default=[],
        metavar="HOST",
        help="name or address that nodes and kubectl use; may be repeated",
    )
    p.add_argument("--config", help=f"configuration file (default: {DEFAULT_CLOUD_CONFIG})")
    p.add_argument("--no-start", dest="start", action="store_false", help="do not start the cloud's service")
    group = p.add_argument_group("in a Kubernetes cluster (with --kube-config)")
    for add in (cluster_options.add_access, cluster_options.add_values, cluster_options.add_installing):
        add(group)


def _add_cluster(commands: _Commands) -> None:
    cluster_options.add_commands(
        commands.add("upgrade", "cluster", "upgrade the cloud side in a cluster, or change its values", output=False),
        commands.add("manifest", "cluster", "print what `init --kube-config` applies", output=False),
        commands.add("debug", "cluster", "examine the cloud side in a cluster", output=False),
    )


def _add_join(commands: _Commands) -> None:
    p = commands.add("join", "join", "make this machine a node: get a certificate with a token")
    p.add_argument("cloud", metavar="HOST[:PORT]", nargs="?", help="the cloud's bootstrap address (default port 10002)")
    token = p.add_mutually_exclusive_group(required=True)
    token.add_argument("--token", help="bootstrap token (visible to other users of this machine; prefer --token-file)")
    token.add_argument("--token-file", help="file with the token, '-' for standard input")
    p.add_argument("--name", "--edgenode-name", help="name of the node (default: the host name)")
    board_options.add_to_join(p)
    p.add_argument(
        "-l", "--label", "--labels",
        action="append",
        default=[],
        metavar="KEY=VALUE,...",
        help="labels of the Node that is made, besides those of the configuration; may be repeated",
    )  # fmt: skip
    p.add_argument(
        "--taint",
        action="append",
        default=[],
        metavar="KEY=VALUE:EFFECT",
        help="a taint of the Node that is made, before any pod comes there; may be repeated",
    )
    p.add_argument("--cloudcore-ipport", help=argparse.SUPPRESS)  # keadm's way to name the cloud
    _root(p)
    p.add_argument(
        "--wait",
        type=float,
        metavar="SECONDS",
        help="keep trying for this long, even if nothing listens yet (default: 30 for transient failures)",
    )
    p.add_argument("--force", action="store_true", help="replace the credentials of an earlier join")
    after = p.add_mutually_exclusive_group()
    after.add_argument("--run", action="store_true", help="then run the agent in the foreground")
    after.add_argument("--no-start", dest="start", action="store_false", help="do not start the agent's service")

    p = commands.add(
        "reset",
        "reset",
        "undo join: stop pods and agent, remove state and credentials; `cloud`: undo init in a cluster",
        output=False,
    )
    p.add_argument("what", nargs="?", choices=("edge", "cloud"), default="edge", help="default: edge, this machine")
    _root(p)
    p.add_argument("--force", action="store_true", help="do not ask")
    p.add_argument("--keep-state", action="store_true", help="only stop pods and agent, which can be started again")
    group = p.add_argument_group("reset cloud")
    cluster_options.add_access(group)
    group.add_argument("--delete-data", action="store_true", help="also the volume and the authority that nodes trust")
    group.add_argument(
        "--timeout", type=float, default=120.0, metavar="SECONDS", help="until all is gone (default: %(default)g)"
    )


def _add_new_token(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tenant", default="default", help="tenant of the new node (default: default)")
    parser.add_argument("--node", default="", help="restrict the token to this node name (default: any name)")
    parser.add_argument("--ttl", default="24h", help="lifetime: 30m, 24h, 7d (default: 24h)")
    parser.add_argument("--replace", action="store_true", help="allow it to replace an existing node")
    _socket(parser, CLOUD_SOCKET, "the cloud's")


def _add_cloud_tools(commands: _Commands) -> None:
    p = commands.add("token", "token", "bootstrap tokens", output=False)
    create, list_, revoke = _verbs(
        p, ("create", "create a token"), ("list", "list tokens"), ("revoke", "revoke a token")
    )
    _add_new_token(create)
    for verb in (list_, revoke):
        verb.add_argument("--tenant", default="default", help="tenant (default: default)")
        _socket(verb, CLOUD_SOCKET, "the cloud's")
    revoke.add_argument("id", help="token ID: the six characters between the dots")
    board_options.add_to_token(create)
    board = commands.add("board", "board", "boards that join with a join key", output=False)
    for verb in board_options.add(_verbs(board, *board_options.VERBS)):
        _socket(verb, CLOUD_SOCKET, "the cloud's")

    p = commands.add("kubeconfig", "kubeconfig", "manage access to the Kubernetes API of a tenant", output=False)
    create, list_, revoke, replace = _verbs(
        p,
        ("create", "create a kubeconfig and print it; its key is shown only once"),
        ("list", "list kubeconfigs"),
        ("revoke", "revoke a kubeconfig and close its connections"),
        ("replace", "replace the kubeconfig in the administrator's file on this machine and revoke the old one"),
    )
    create.add_argument("--user", default="admin", help="name of the user (default: admin)")
    create.add_argument("--ttl", default="365d", help="lifetime: 24h, 90d (default: 365d)")
    create.add_argument("--file", help="write it to this file (mode 0600) instead of printing it")
    revoke.add_argument("id", help="ID, as shown by `kubeedge kubeconfig list`")
    for verb in (create, list_, revoke, replace):
        verb.add_argument("--tenant", default="default", help="tenant (default: default)")
        _socket(verb, CLOUD_SOCKET, "the cloud's")

    p = commands.add("tenant", "tenant", "tenants of this cloud", output=False)
    create, list_, show, quota, remove = _verbs(
        p,
        ("create", "create a tenant"),
        ("list", "list tenants"),
        ("show", "show a tenant's usage and quota"),
        ("quota", "set a tenant's quota"),
        ("remove", "remove a tenant"),
    )
    remove.add_argument("--force", action="store_true", help="with its nodes and, of the embedded API, its objects")
    for verb in (create, show, quota, remove):
        verb.add_argument("name")
    api = create.add_mutually_exclusive_group()
    api.add_argument(
        "--kubeconfig",
        metavar="FILE",
        help="the Kubernetes cluster whose API it uses; in-cluster: the one that the cloud itself runs in. Also for a tenant that exists",
    )
    api.add_argument("--embedded", action="store_true", help="the API of this cloud (default for a new tenant)")
    quota.add_argument(
        "--objects", type=int, default=0, help="number of Kubernetes objects (default: from the configuration)"
    )
    quota.add_argument("--mib", type=int, default=0, help="their total size in MiB (default: from the configuration)")
    for verb in (create, list_, show, quota, remove):
        _socket(verb, CLOUD_SOCKET, "the cloud's")

    p = commands.add("node", "node", "nodes of a tenant", output=False)
    list_, remove = _verbs(
        p,
        ("list", "list nodes: attached or away, last seen, addresses, version, lag"),
        ("remove", "close its links and channel, delete it, and free its name and number"),
    )
    list_.add_argument("--tenant", default="", help="tenant (default: all)")
    _socket(list_, CLOUD_SOCKET, "the cloud's")
    remove.add_argument("node", help="its name")
    remove.add_argument("--tenant", default="default", help="tenant (default: default)")
    _socket(remove, CLOUD_SOCKET, "the cloud's")


def _add_gettoken(commands: _Commands) -> None:
    p = commands.add("gettoken", "token", "create and print a bootstrap token")
    p.set_defaults(verb="create")
    _add_new_token(p)
    cluster_options.add_access(p.add_argument_group("of a cloud side in a Kubernetes cluster (with --kube-config)"))


def _add_edge_tools(commands: _Commands) -> None:
    p = commands.add("status", "status", "show the state of the agent (or the cloud process) on this machine")
    p.add_argument("--socket", help=f"unix socket (default: {EDGE_SOCKET}, or {CLOUD_SOCKET})")

    p = commands.add("publish", "publish", "publish a web service of this node")
    p.add_argument("name", nargs="?", help="its name in the URL: http://HOST/TENANT/NODE/NAME/")
    p.add_argument("target", nargs="?", help="PORT or HOST:PORT where it listens")
    p.add_argument(
        "--access",
        choices=("public", "tenant", "token"),
        help="who may use it: everyone (default), nodes of the tenant, or holders of a token",
    )
    what = p.add_mutually_exclusive_group()
    what.add_argument("--new-token", action="store_true", help="add an access token; shown only once")
    what.add_argument("--revoke-tokens", action="store_true", help="revoke all access tokens")
    what.add_argument("--remove", action="store_true", help="unpublish it")
    what.add_argument("--list", action="store_true", help="list what this node publishes, and for whom")
    _socket(p, EDGE_SOCKET, "the agent's")

    p = commands.add("image", "image", "container images of this node", output=False)
    import_, list_, pull, remove, prune, save = _verbs(
        p,
        ("import", "import an OCI or docker archive"),
        ("list", "list images"),
        ("pull", "pull an image from its registry or a mirror of it"),
        ("rm", "remove an image that no container uses"),
        ("prune", "remove every image that no container uses"),
        ("save", "write an image to an OCI archive, for another node"),
    )
    import_.add_argument("archive")
    import_.add_argument("names", nargs="*", help="additional names for the image")
    for verb in (pull, remove, save):
        verb.add_argument("name", help="name of the image, like registry.example/team/app:1")
    pull.add_argument("--user", default="", help="with the password in KUBEEDGE_REGISTRY_PASSWORD; else as for a pod")
    save.add_argument("archive", help="the file to write")
    for verb in (import_, list_, pull, remove, prune, save):
        _socket(verb, EDGE_SOCKET, "the agent's")


def _add_network_tools(commands: _Commands) -> None:
    both = f"unix socket (default: {EDGE_SOCKET}, or {CLOUD_SOCKET})"
    p = commands.add("ping", "ping", "measure round trips to a node through KubeBus")
    p.add_argument("node", help='node name; on an edge node also "cloud"')
    p.add_argument("-c", "--count", type=int, default=4, help="number of pings (default: %(default)s)")
    p.add_argument("-i", "--interval", type=float, default=0.5, help="seconds between pings (default: %(default)g)")
    links = commands.add("links", "links", "show the links of KubeBus: state, round trip, traffic, queues, drops")
    routes = commands.add(
        "routes", "routes", "show what is reachable through KubeBus, and the return route for other machines"
    )
    for parser in (p, links, routes):
        parser.add_argument("--tenant", default="default", help="in the cloud: tenant (default: default)")
        parser.add_argument("--socket", help=both)

    p = commands.add("router", "router", "virtual routers: networks behind nodes", output=False)
    allow, list_ = _verbs(p, ("allow", "allow networks behind a node"), ("list", "list allowed networks"))
    allow.add_argument("node", help="the router")
    allow.add_argument(
        "subnets",
        nargs="*",
        metavar="SUBNET",
        help="all of its networks, like 10.0.0.0/24; without any, none are allowed",
    )
    for verb in (allow, list_):
        verb.add_argument("--tenant", default="default", help="tenant (default: default)")
        _socket(verb, CLOUD_SOCKET, "the cloud's")


def _add_mesh(commands: _Commands) -> None:
    verbs = _verbs(
        commands.add("mesh", "mesh", "Services on this node, and policies of its pods", output=False),
        ("services", "list the Services that this node knows"),
        ("endpoints", "list what is behind them, and how this node knows"),
        ("policies", "list the NetworkPolicies of this node's pods, and which pods they select"),
        ("dns", "show the DNS server: address, queries, cache"),
        ("trace", "show which way a Service goes from here, and why"),
    )
    verbs[-1].add_argument("service", help="NAME, NAME.NAMESPACE or NAMESPACE/NAME")
    for verb in verbs:
        _socket(verb, EDGE_SOCKET, "the agent's")


def _add_upkeep(commands: _Commands) -> None:
    p = commands.add("store", "store", "check, back up and restore the store of this machine", output=False)
    check, backup, restore, stats = _verbs(
        p,
        ("check", "check the file for corruption (exit status 1: corrupt, with advice)"),
        ("backup", "copy it, online"),
        ("restore", "replace it with a backup, offline"),
        ("stats", "show its contents by kind"),
    )
    for verb in (check, backup, restore, stats):
        verb.add_argument("--store", help="the file (default: the agent's below ROOT, or the cloud's)")
        _root(verb)
    for verb in (backup, restore):
        verb.add_argument("file", help="the backup")
    backup.add_argument("--force", action="store_true", help="replace the file if it exists")

    p = commands.add(
        "secrets-key", "secrets_key", "keys that encrypt Secrets in the store of this machine", output=False
    )
    verbs = _verbs(
        p,
        ("generate", "make a file with a new key"),
        ("rotate", "put a new key before those in the file"),
        ("prune", "take keys out of the file that the store no longer needs; backups may"),
        ("status", "what is encrypted, with which key, and whether that is there (exit status 1: it is not)"),
    )
    for verb in verbs:
        _root(verb)
        verb.add_argument("--config", help="configuration file (default: the agent's below ROOT, or the cloud's)")
        if verb is not verbs[-1]:
            verb.add_argument(
                "file", nargs="?", help="the file (default: secretsEncryption.keyFile of the configuration)"
            )

    p = commands.add("sync", "sync", "synchronisation between node and cloud", output=False)
    (status,) = _verbs(p, ("status", "last sync revisions, lag, queue and bytes in both directions"))
    status.add_argument("--socket", help=f"unix socket (default: {EDGE_SOCKET}, or {CLOUD_SOCKET})")
    status.add_argument("--tenant", default="", help="in the cloud: of this tenant only")
    status.add_argument("--node", default="", help="in the cloud: of this node only")


def parser(program_name: str = "kubeedge") -> argparse.ArgumentParser:
    """All commands, or those of keadm."""
    keadm = program_name == "keadm"
    program = argparse.ArgumentParser(
        prog=program_name,
        description="Kubernetes nodes behind NAT: the edge agent, the cloud side, and their tools."
        if not keadm
        else "Make this machine a node, or undo it. `kubeedge --help` shows the rest.",
        allow_abbrev=False,
    )
    commands = _Commands(program)
    if not keadm:
        _add_runners(commands)
    _add_init(commands)
    _add_cluster(commands)
    _add_join(commands)
    if not keadm:
        _add_cloud_tools(commands)
    _add_gettoken(commands)
    if not keadm:
        _add_edge_tools(commands)
        pod_options.add_commands(commands.add, EDGE_SOCKET)
        image_options.add_commands(commands.add)
        device_options.add_commands(commands.add)
        _add_network_tools(commands)
        _add_mesh(commands)
        _add_upkeep(commands)
    p = commands.add("version", "version", "print the version", output=False)
    p.add_argument("-o", "--output", choices=("text", "json", "yaml", "short"), default="text", help="output format")
    return program
