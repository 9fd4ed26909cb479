"""A CSI driver that nobody here wrote, upstream's mock with real mounts: registration, the life of a volume, and a driver that is gone, hangs or lies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kubeedge.appengine.csi.core import CsiError, CsiVolumeSpec
from kubeedge.appengine.csi.node import CsiNode
from kubeedge.appengine.csi.plugins import Plugins
from kubeedge.appengine.runtime import mounts
from tests.kit.upstream import build

pytestmark = pytest.mark.root
NAME = "mock.csi.test"
VOLUME = CsiVolumeSpec(
    driver=NAME, handle="1", name="pv1", pod_uid="u1", ephemeral=False, read_only=False, fs_type="ext4",
    attributes={"kind": "fast"}, stage_secrets={"k": "v"},
)  # fmt: skip


class Mock:
    """The program, in a directory of its own."""

    def __init__(self, root: Path) -> None:
        self.root, self.backing = root, root / "backing"
        self.backing.mkdir()
        self.start()

    def start(self) -> None:
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(build.program("csi-mock")), "-kubelet", str(self.root), "-backing", str(self.backing), "-expand", "-name", NAME],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def calls(self) -> list[str]:
        lines = [line for line in (self.root / "log").read_text().splitlines() if line.startswith("{")]
        return [json.loads(line)["method"].rpartition("/")[2] for line in lines]


@pytest.fixture
def mock() -> Iterator[Mock]:
    with tempfile.TemporaryDirectory(prefix="kbc") as root:  # the path of a socket must be short
        made = Mock(Path(root))
        try:
            yield made
        finally:
            made.stop()
            for point in mounts.mounted_below(Path(root)):
                mounts.unmount(point)


@contextlib.asynccontextmanager
async def agent(mock: Mock) -> AsyncIterator[tuple[CsiNode, list[Any]]]:
    """A node, with what it has reported of its drivers."""
    reports: list[Any] = []

    async def changed() -> None:
        reports.append([driver.report() for driver in plugins])

    plugins = Plugins(mock.root / "plugins_registry", changed)
    following = asyncio.create_task(plugins.follow())
    try:
        async with asyncio.timeout(120):
            while plugins.get(NAME) is None:
                await asyncio.sleep(0.05)
        yield CsiNode(mock.root, mock.root / "state", plugins), reports
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


def test_a_volume_is_staged_once_published_for_each_pod_and_taken_back(mock: Mock) -> None:
    async def scenario() -> None:
        async with agent(mock) as (node, reports):
            assert reports[0] == [{"name": NAME, "nodeID": NAME, "topologyKeys": ["io.kubernetes.storage.mock/node"]}]
            other = replace(VOLUME, pod_uid="u2")
            for volume in (VOLUME, other, VOLUME):
                await node.publish(volume)
            target = node.target(VOLUME)
            (target / "file").write_text("kept")
            assert (node.target(other) / "file").read_text() == "kept" and mounts.is_mounted(target)
        before = mock.calls().count("NodePublishVolume")
        async with agent(mock) as (node, _):  # another agent: what is mounted is left alone
            await node.publish(VOLUME)
            assert "NodeExpandVolume" not in mock.calls()
            await node.publish(replace(VOLUME, grow_to=2**31))
            assert mock.calls()[-1] == "NodeExpandVolume"
            assert mock.calls().count("NodePublishVolume") == before == 2
            await node.release("u1")
            assert not target.exists() and "NodeUnstageVolume" not in mock.calls()
            await node.release("u2")
            await node.release("u2")
            assert mock.calls()[-2:] == ["NodeUnpublishVolume", "NodeUnstageVolume"]
        assert (mock.backing / "pv1/file").read_text() == "kept" and not list((mock.root / "state").iterdir())
        assert mounts.mounted_below(mock.root) == []

    asyncio.run(scenario())


def test_what_a_pod_leaves_behind_is_taken_back_when_its_driver_is_there_again(mock: Mock) -> None:
    async def scenario() -> None:
        async with agent(mock) as (node, reports):
            await node.publish(VOLUME)
            mock.stop()
            (mock.root / f"plugins_registry/{NAME}-reg.sock").unlink()
            async with asyncio.timeout(120):
                while node.plugins.get(NAME) is not None:
                    await asyncio.sleep(0.05)
            assert reports[-1] == []
            with pytest.raises(CsiError, match="is not registered on this node"):
                await node.release("u1")
            with pytest.raises(CsiError, match="is not registered on this node"):
                await node.publish(replace(VOLUME, pod_uid="u3"))
        mounts.unmount(node.target(VOLUME))  # a power cut unmounts it
        mock.start()
        async with agent(mock) as (node, _):
            reclaiming = asyncio.create_task(node.reclaim(lambda uid: False))
            async with asyncio.timeout(120):
                while list((mock.root / "state").iterdir()):
                    await asyncio.sleep(0.05)
            reclaiming.cancel()
            assert not node.target(VOLUME).exists() and {"NodeUnpublishVolume", "NodeUnstageVolume"} <= set(
                mock.calls()
            )

    asyncio.run(scenario())


def test_a_driver_that_lies_loses_nothing_and_one_that_hangs_can_be_left(mock: Mock) -> None:
    async def scenario() -> None:
        async with agent(mock) as (node, _):
            await node.publish(VOLUME)
            (node.target(VOLUME) / "file").write_text("kept")
        mock.stop()
        mock.start()  # it remembers nothing: "there is no such thing" is its answer, and the mount is still there
        async with agent(mock) as (node, _):
            with pytest.raises(CsiError, match="has left .* mounted"):
                await node.release("u1")
            assert (mock.backing / "pv1/file").read_text() == "kept"
            mounts.unmount(node.target(VOLUME))
            await node.release("u1")
            assert (mock.backing / "pv1/file").read_text() == "kept"

            (mock.backing / "hang").touch()
            publishing = asyncio.create_task(node.publish(replace(VOLUME, handle="2", name="pv2")))
            state = mock.root / "state"
            async with asyncio.timeout(120):
                while not list(state.iterdir()):
                    await asyncio.sleep(0.05)
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
            (mock.backing / "hang").unlink()
            await node.release("u1")  # of a call that was given up nobody knows how it ended: it is taken back
            assert not list(state.iterdir()) and mounts.mounted_below(mock.root) == []
            with pytest.raises(CsiError, match="9"):
                await node.publish(replace(VOLUME, handle="9"))

    asyncio.run(scenario())
