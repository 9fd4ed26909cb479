"""`kubeedge cloud`, `kubeedge edge` and `kubeedge vm-routes`: the programs, in the foreground."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kubeedge.cli import cloud_side
from kubeedge.cli.errors import UsageError
from kubeedge.cli.parser import DEFAULT_CLOUD_CONFIG
from kubeedge.kit import dataclasses

if TYPE_CHECKING:
    from kubeedge.config.cloud import CloudConfig


def run(options: argparse.Namespace) -> int:
    """The process's exit status, when it has ended. Raises CommandError when the cloud side is not installed."""
    match options.command:
        case "cloud":
            return _cloud(options)
        case "vm-routes":
            return _vm_routes(options)
    return _edge(options)


def _cloud(options: argparse.Namespace) -> int:
    from kubeedge.config import cloud

    if options.default_config:
        sys.stdout.write(cloud.default_yaml())
        return 0
    path = Path(options.config or DEFAULT_CLOUD_CONFIG)
    config = cloud.load(path) if options.config or path.exists() else cloud.CloudConfig()
    if options.relay_address:
        config = _with_relay(config, options.relay_address)
    if options.kubelet_address:
        config = _with_kubelets(config, options.kubelet_address)
    return cloud_side.load().serve(config, new_authority=options.new_authority)


def _vm_routes(options: argparse.Namespace) -> int:
    from kubeedge.config import forms

    try:
        forms.address(options.address)
        for network in options.networks:
            forms.network(network)
    except ValueError as exc:
        raise UsageError(f"vm-routes: {exc}") from exc
    return cloud_side.load().vm_routes(options)


def _with_relay(config: CloudConfig, address: str) -> CloudConfig:
    """Where several processes share one configuration each has an address of its own. Raises UsageError."""
    from kubeedge.config import forms

    host, _, port = address.rpartition(":")
    if ":" in host and not host.startswith("["):
        address = f"[{host}]:{port}"  # a pod's address is written without brackets
    try:
        forms.endpoint(address)
    except ValueError as exc:
        raise UsageError(f"--relay-address {address}: {exc}") from exc
    return dataclasses.replace(config, relays=dataclasses.replace(config.relays, addresses=(address,)))


def _with_kubelets(config: CloudConfig, address: str) -> CloudConfig:
    """The same for the kubelet ports of the nodes. Raises UsageError."""
    from kubeedge.config import forms

    try:
        forms.host(address)
    except ValueError as exc:
        raise UsageError(f"--kubelet-address {address}: {exc}") from exc
    return dataclasses.replace(config, kubelets=dataclasses.replace(config.kubelets, node_address=address))


def _edge(options: argparse.Namespace) -> int:
    from kubeedge.cli import agent_process
    from kubeedge.config import edge, node_credentials

    root = Path(options.root_dir).absolute()
    defaults = edge.EdgeConfig(paths=edge.at_root(root))
    if options.default_config:
        sys.stdout.write(edge.default_yaml(defaults))
        return 0
    path = Path(options.config).absolute() if options.config else defaults.paths.pki.parent / "kubeedge.yaml"
    config = edge.load(path) if options.config or path.exists() else defaults
    credentials = node_credentials.credentials_path(config.paths)
    node_credentials.load_credentials(credentials)
    agent_process.become(config, credentials, sys.argv[1:])
