"""Commands for the cloud side in a Kubernetes cluster: `init --kube-config`, `upgrade`, `manifest`, `reset cloud`, `gettoken --kube-config`, `debug`.

What is done is in the cloud's distribution (cloud_side.py).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from kubeedge.cli import cloud_side


def run(options: argparse.Namespace) -> int:
    """Exit status of the command. Raises CommandError when the cloud side is not installed here."""
    return cloud_side.load().administer(options)


def is_meant(options: argparse.Namespace, program: str = "kubeedge") -> bool:
    """Whether a command is about a cluster, not about this machine; keadm's users mean the cluster whose kubeconfig is there."""
    if options.kube_config is not None or options.context:
        return True
    return program == "keadm" and bool(os.environ.get("KUBECONFIG") or (Path.home() / ".kube/config").exists())
