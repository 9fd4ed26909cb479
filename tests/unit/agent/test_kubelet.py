"""Who may use a service that is for the cloud alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kubeedge.agent.kubelet import for_the_cloud
from kubeedge.config.node_credentials import NodeCredentials


class Writer:
    def __init__(self, number: int) -> None:
        self.number = number
        self.aborted = False
        self.transport = self

    def get_extra_info(self, name: str) -> tuple[int, int]:
        assert name == "peername"
        return self.number, 40_000

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.parametrize(
    ("network", "cidr", "number", "served"),
    [
        ("10.244.0.0/16", "10.244.7.0/24", 0, True),  # the relay
        ("10.244.0.0/16", "10.244.7.0/24", 256, True),  # another cloud process, behind the 255 nodes
        ("10.244.0.0/16", "10.244.7.0/24", 1, False),
        ("10.244.0.0/16", "10.244.7.0/24", 255, False),
        ("10.128.0.0/9", "10.128.7.0/24", 256, False),  # a wider plan has more nodes
        ("10.128.0.0/9", "10.128.7.0/24", 32_768, True),
    ],
)
def test_the_cloud_is_served_and_other_nodes_are_not(network: str, cidr: str, number: int, served: bool) -> None:
    own = NodeCredentials(
        tenant="default", node="edge7", number=7, address="100.64.0.7/16", pod_cidr=cidr, pod_network=network,
        hub=("cloud:1",), relays=("cloud:2",), bootstrap=("cloud:3",),
    )  # fmt: skip
    calls: list[Any] = []

    async def serve(reader: Any, writer: Any) -> None:
        calls.append(writer)

    writer = Writer(number)
    asyncio.run(for_the_cloud(serve, own)(None, writer))  # type: ignore[arg-type, call-arg, func-returns-value]
    assert (calls == [writer], writer.aborted) == (served, not served)
