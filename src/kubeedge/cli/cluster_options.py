"""The command line of what is about a cluster (cluster.py). `kubeedge --help` imports this, so it imports nothing."""

from __future__ import annotations

import argparse

USUAL = "$KUBECONFIG or ~/.kube/config"


def add_access(p: argparse._ActionsContainer) -> None:
    """Which cluster, and where in it."""
    p.add_argument(
        "--kube-config",
        "--kubeconfig",
        nargs="?",
        const="",
        metavar="FILE",
        help=f"the cluster's kubeconfig (default: {USUAL})",
    )
    p.add_argument("--context", default="", help="context of the kubeconfig (default: its current one)")
    p.add_argument("-n", "--namespace", default="kubeedge", help="namespace of the cloud side (default: kubeedge)")


def add_values(p: argparse._ActionsContainer) -> None:
    """What the chart is rendered with."""
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a value of the chart, as for Helm; may be repeated",
    )
    p.add_argument("--values", action="append", default=[], metavar="FILE", help="a file with values of the chart")
    p.add_argument(
        "--manifests", "--files", "-f", action="append", default=[], metavar="FILE", help="more objects to apply"
    )
    p.add_argument(
        "--kubeedge-version", metavar="VERSION", help="tag of the image (default: the version of this program)"
    )
    p.add_argument(
        "--image-repository", metavar="PREFIX", help="the image is PREFIX/cloud (default: docker.io/kubeedge)"
    )
    p.add_argument(
        "--profile", metavar="version=VERSION", help=argparse.SUPPRESS
    )  # keadm's way to say --kubeedge-version
    p.add_argument("--external-helm-root", metavar="DIRECTORY", help="another chart than the one in this program")


def add_installing(p: argparse._ActionsContainer) -> None:
    """Add the options that say how an installation is applied."""
    p.add_argument("-d", "--dry-run", action="store_true", help="only say what would change, as the API server sees it")
    p.add_argument("--wait", action=argparse.BooleanOptionalAction, default=True, help="until it is Ready (default)")
    p.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS", help="for --wait (default: %(default)g)")
    p.add_argument("--force", action="store_true", help="take over fields that somebody else has set")
    p.add_argument("--reset-values", action="store_true", help="forget the values of earlier runs")
    p.add_argument(
        "--skip-preflight-checks", action="store_true", help="do not ask for the rights that are needed first"
    )


def add_commands(
    upgrade: argparse.ArgumentParser, manifest: argparse.ArgumentParser, debug: argparse.ArgumentParser
) -> None:
    """The commands that are about a cluster alone."""
    upgrade.add_argument("what", nargs="?", choices=("cloud",), default="cloud", help="what is upgraded")
    manifest.add_argument("verb", nargs="?", choices=("generate",), default="generate", help="what is done")
    manifest.add_argument("--skip-crds", action="store_true", help="leave out custom resource definitions")
    for p in (upgrade, manifest):
        p.add_argument(
            "--advertise", "--advertise-address", action="append", default=[], metavar="HOST",
            help="name or address that nodes use; may be repeated",
        )  # fmt: skip
        add_access(p)
        add_values(p)
    add_installing(upgrade)
    debug.add_argument("verb", choices=("check", "diagnose", "collect"), help="check and diagnose say what is wrong")
    debug.add_argument("--output-path", "-o", metavar="FILE", help="for collect (default: kubeedge-NAMESPACE.tar.gz)")
    add_access(debug)


def add_vm_routes(parser: argparse.ArgumentParser) -> None:
    """Add the options of `vm-routes`: which networks go by way of which pod's machine."""
    parser.add_argument("networks", nargs="+", metavar="NETWORK", help="of the edge nodes and their pods")
    parser.add_argument("--namespace", required=True, help="namespace of the router's pod")
    parser.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help="of the router's pod")
    parser.add_argument("--address", required=True, help="address of this machine in the cluster")
