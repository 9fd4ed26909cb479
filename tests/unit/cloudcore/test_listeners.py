"""What the configuration of a cloud process means for the nodes that join through it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubeedge.config.cloud import CloudConfig, CloudPaths, CloudTunConfig, Listener, Listeners
from kubeedge.errors import Invalid
from kubeedge.store.memory import MemoryStore
from kubeedge_cloud.bootstrap.endpoints import advertised
from kubeedge_cloud.cloudcore import Cloud


def cloud(tmp_path: Path, *, tun: CloudTunConfig | None = None, peers: tuple[str, ...] = (), **listeners: Any) -> Cloud:
    config = CloudConfig(
        paths=CloudPaths(state=tmp_path / "state", run=tmp_path / "run"),
        advertise=("203.0.113.1", "2001:db8::1"),
        peers=peers,
        listeners=Listeners(**listeners),
        tun=tun or CloudTunConfig(enable=False),
    )
    return Cloud(config, MemoryStore())


def test_what_is_off_here_is_told_only_where_it_may_be_on(tmp_path: Path) -> None:
    everything = cloud(tmp_path, peers=("203.0.113.2",))
    relay = everything.config.listeners.relay
    assert advertised(everything.config, relay) == ("203.0.113.1:10010", "[2001:db8::1]:10010", "203.0.113.2:10010")
    off = Listener(port=10010, enable=False)
    assert advertised(everything.config, off) == ("203.0.113.2:10010",)
    assert advertised(everything.config, Listener(port=0, enable=False)) == ()
    cloud(tmp_path, relay=Listener(port=0, enable=False))  # and such a cloud begins


@pytest.mark.parametrize(
    ("listeners", "names"),
    [
        ({"relay": Listener(port=0)}, "listeners.relay.port"),
        ({"hub": Listener(port=0)}, "listeners.hub.port"),
        ({"hub": Listener(port=10000, enable=False)}, "listeners.hub.enable"),
    ],
)
def test_what_nodes_could_not_use_is_refused_at_the_start(tmp_path: Path, listeners: Any, names: str) -> None:
    with pytest.raises(Invalid) as refused:
        cloud(tmp_path, **listeners)
    assert refused.value.path == names
    cloud(tmp_path, **listeners, bootstrap=Listener(port=0, enable=False))  # nobody joins here: nobody has to be told


def test_an_address_of_a_node_is_not_the_clouds(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="node number 7"):
        cloud(tmp_path, tun=CloudTunConfig(address="100.64.0.7/16"))
    cloud(tmp_path, tun=CloudTunConfig(address="100.64.255.1/16"))
