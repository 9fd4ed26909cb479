"""One control plane for each file: it takes seconds to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.cluster import KubernetesCluster
from tests.kit.topology import Topology

ADDRESS = "203.0.113.10"


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesCluster]:
    with Topology() as net:
        host = net.host("control")
        host.ip("addr", "add", f"{ADDRESS}/32", "dev", "lo")
        cluster = KubernetesCluster(host, tmp_path_factory.mktemp("kubernetes"), address=ADDRESS)
        cluster.start()
        yield cluster
