"""Commands for the cloud side in a Kubernetes cluster: `init --kube-config`, `upgrade`, `manifest`, `reset cloud`, `gettoken --kube-config`, `debug`.

What is done is in the cloud's distribution (kubeedge_cloud.install), which this one does not know.
"""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path

from kubeedge.cli.errors import CommandError


def run(options: argparse.Namespace) -> int:
    """Exit status of the command. Raises CommandError when the cloud side is not installed here."""
    try:
        # by name: the edge distribution does not know the cloud's
        commands = importlib.import_module("kubeedge_cloud.install.commands")
    except ModuleNotFoundError as exc:
        if not (exc.name or "").startswith("kubeedge_cloud"):
            raise
        raise CommandError("the cloud side is not installed", "pip install kubeedge-cloud") from exc
    status: int = commands.run(options)
    return status


def is_meant(options: argparse.Namespace, program: str = "kubeedge") -> bool:
    """Whether a command is about a cluster, not about this machine; keadm's users mean the cluster whose kubeconfig is there."""
    if options.kube_config is not None or options.context:
        return True
    return program == "keadm" and bool(os.environ.get("KUBECONFIG") or (Path.home() / ".kube/config").exists())
