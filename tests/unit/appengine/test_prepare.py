"""What is on disk before a container starts, and what must not be."""

from __future__ import annotations

import asyncio
from pathlib import Path

from kubeedge.appengine.prepare import Preparer
from tests.unit.appengine.world import container, pod

SECRET = {"data": {"key": "c2VjcmV0"}}


def preparer(tmp_path: Path) -> Preparer:
    found = Preparer(node="edge1", host_ip="100.64.0.1", state=tmp_path, log_root=tmp_path / "logs")
    found.keep("secrets", "default", "s", SECRET)
    found.keep("configmaps", "default", "c", {"data": {"key": "text"}})
    return found


def test_a_secret_that_changes_after_a_power_cut_is_not_written_to_the_disk(tmp_path: Path) -> None:
    """Its directory is there, and what was mounted on it is not."""
    volumes = [{"name": "s", "secret": {"secretName": "s"}}, {"name": "c", "configMap": {"name": "c"}}]
    wanted = pod(volumes=volumes, containers=[container()])
    for name in ("s", "c"):
        (tmp_path / "volumes/u1" / name).mkdir(parents=True)
    asyncio.run(preparer(tmp_path).refresh(wanted, "10.244.1.2"))
    assert not list((tmp_path / "volumes/u1/s").iterdir())
    assert (tmp_path / "volumes/u1/c/key").read_text() == "text"


def test_volumes_of_pods_that_nobody_knows_are_removed(tmp_path: Path) -> None:
    for uid in ("known", "unknown"):
        (tmp_path / "volumes" / uid / "v").mkdir(parents=True)
    preparer(tmp_path).volumes.sweep({"known"})
    assert [p.name for p in (tmp_path / "volumes").iterdir()] == ["known"]
