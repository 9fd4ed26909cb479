"""What the command line calls of the cloud side (kubeedge.cli.cloud_side states the seam). Each command loads only what it needs."""

from __future__ import annotations

import argparse

from kubeedge.config.cloud import CloudConfig


def serve(config: CloudConfig, *, new_authority: bool = False) -> int:
    """A cloud process in the foreground, until it is interrupted; its exit status."""
    from kubeedge_cloud import cloudcore

    return cloudcore.main(config, new_authority=new_authority)


def administer(options: argparse.Namespace) -> int:
    """A command for the cloud side in a Kubernetes cluster; its exit status. Raises KubeEdgeError."""
    from kubeedge_cloud.install import commands

    return commands.run(options)


def vm_routes(options: argparse.Namespace) -> int:
    """The routes of a cluster's machine to the edge nodes, until it is interrupted; its exit status."""
    from kubeedge_cloud.vmroutes import module

    labels = dict(text.partition("=")[::2] for text in options.label)
    return module.main(
        module.VmRoutesSettings(
            namespace=options.namespace, labels=labels, address=options.address, networks=options.networks
        )
    )
