"""A cluster whose etcd is restored from a backup: its revisions count on from an older one, and what was made since is not there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from kubeedge.api.resources import CONFIGMAPS
from kubeedge_cloud.clusters.client import RemoteClient
from kubeedge_cloud.clusters.credentials import Credentials
from kubeedge_cloud.clusters.transport import ClusterTransport
from tests.kit.cluster.site import Site
from tests.kit.topology import inside
from tests.kubernetes.workloads import eventually, pod, ready, runs, wait_ready

pytestmark = pytest.mark.root

#: more than what a cluster writes in the time of this test
_WRITES = 1000


def revision(site: Site) -> int:
    found = json.loads(site.cluster.kubectl("get", "--raw", "/api/v1/namespaces?limit=1"))
    return int(found["metadata"]["resourceVersion"])


def write_much(site: Site) -> None:
    async def whole() -> None:
        transport = ClusterTransport(Credentials(str(site.cluster.kubeconfig())))
        client = RemoteClient(transport)
        try:
            await client.create(CONFIGMAPS, "default", {"metadata": {"name": "much"}})
            for begin in range(0, _WRITES, 20):
                patches = ({"data": {str(n % 20): str(n)}} for n in range(begin, begin + 20))
                await asyncio.gather(*(client.merge_patch(CONFIGMAPS, "default", "much", patch) for patch in patches))
        finally:
            await transport.close()

    inside(site.cluster.host, lambda: asyncio.run(whole()))


@pytest.fixture
def newcomer(site: Site) -> Iterator[str]:
    """A machine that joins, and leaves in the end."""
    yield "edge3"
    site.cluster.kubectl("delete", "node", "edge3", "--ignore-not-found", timeout=150)
    eventually(lambda: "edge3" not in site.admin("node", "list"), "removed from the network")
    site.reset("edge3")
    del site.agents["edge3"]


def test_what_the_backup_has_goes_on_and_what_comes_then_is_followed(site: Site, newcomer: str) -> None:
    site.cluster.apply(pod("kept", command="exec sleep 95123"))
    uid = wait_ready(site, "kept")["metadata"]["uid"]
    site.cluster.back_up()
    write_much(site)
    site.cluster.apply(pod("lost", command="exec sleep 95124"))
    site.join(newcomer)
    site.cluster.kubectl("wait", "--for=condition=Ready", f"node/{newcomer}", "--timeout=120s", timeout=150)
    cidr = site.cluster.json("get", "node", newcomer)["spec"]["podCIDR"]
    wait_ready(site, "lost")
    before = revision(site)
    site.cluster.restore()
    assert revision(site) < before
    site.cluster.apply(pod("fresh", command="exec sleep 95125"))
    wait_ready(site, "fresh")
    assert revision(site) < before, "it was heard of before the revisions were there again"
    eventually(lambda: not runs(site, "edge1", b"95124"), "what the cluster does not know any more ends")
    found = wait_ready(site, "kept")
    assert found["metadata"]["uid"] == uid and found["status"]["containerStatuses"][0]["restartCount"] == 0
    assert runs(site, "edge1", b"95123") and ready(site, "edge1") == "True"

    eventually(lambda: newcomer in site.cluster.kubectl("get", "nodes", "-o", "name"), "a Node that the backup has not")
    site.cluster.kubectl("wait", "--for=condition=Ready", f"node/{newcomer}", "--timeout=120s", timeout=150)
    assert site.cluster.json("get", "node", newcomer)["spec"]["podCIDR"] == cidr
    site.cluster.apply(pod("new", newcomer))
    wait_ready(site, "new")
    site.cluster.kubectl("delete", "pod", "kept", "fresh", "new", timeout=150)
