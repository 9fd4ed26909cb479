"""What a machine would find wrong with its kubeedge.yaml at its first start, said before it is written on a card: somebody has to go there otherwise."""

from __future__ import annotations

import ipaddress
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kubeedge.cli import join
from kubeedge.config import edge
from kubeedge.errors import KubeEdgeError
from kubeedge.pki import tokens
from kubeedge_card import config


def check(fields: Mapping[str, Any]) -> None:
    """Raises ValueError, which names the field."""
    wanted = config.parse(fields)
    if not (wanted.name or wanted.join_key):
        raise ValueError("name: missing, and there is no join key by which the cloud would say it")
    if not (wanted.token or wanted.join_key):
        raise ValueError("token: missing, and there is no join key: this machine could not join")
    try:
        tokens.parse(wanted.token or wanted.join_key)
    except KubeEdgeError as exc:
        raise ValueError(f"{'token' if wanted.token else 'joinKey'}: {exc}") from exc
    try:
        join.endpoint(wanted.cloud)
    except KubeEdgeError as exc:
        raise ValueError(f"cloud: {exc}") from exc
    _check_network(wanted.network)
    _check_agent(wanted.agent)


def _check_network(network: config.Network) -> None:
    if not network.address:
        return
    own = ipaddress.ip_interface(network.address)
    if own.network.num_addresses > 2 and own.ip == own.network.network_address:
        raise ValueError(f"network.address: {own} is the network itself, not an address in it")
    if network.gateway and ipaddress.ip_address(network.gateway) not in own.network:
        raise ValueError(f"network.gateway: {network.gateway} is not in {own.network}")


def _check_agent(settings: Mapping[str, Any]) -> None:
    with tempfile.TemporaryDirectory(prefix="kubeedge-card-") as directory:
        path = Path(directory) / "kubeedge.yaml"
        path.write_text(yaml.safe_dump({"apiVersion": edge.API_VERSION, "kind": edge.KIND, **settings}))
        try:
            edge.load(path)
        except KubeEdgeError as exc:
            raise ValueError(f"agent: {str(exc).removeprefix(f'{path}: ')}") from exc
