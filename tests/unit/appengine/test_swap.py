"""How much swap a container may have, and who is told; and what a node has of it and of huge pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubeedge.appengine import node, swap
from kubeedge.appengine.runtime import cgroups
from kubeedge.appengine.runtime.group_limits import swap_limit
from tests.unit.appengine.world import container, pod

GIB = 1 << 30


def requests(memory: str = "", limit: str = "", **more: str) -> dict[str, Any]:
    asked = {**({"memory": memory} if memory else {}), **more}
    return {"resources": {"requests": asked, "limits": {"memory": limit} if limit else {}}}


@pytest.mark.parametrize(
    ("fields", "spec", "bytes_of_swap"),
    [
        (requests("1Gi"), {}, GIB // 2),  # of 8 GiB memory and 4 GiB swap
        (requests("1Gi", "2Gi"), {}, GIB // 2),
        (requests("1Gi", "1Gi"), {}, 0),  # all of it is promised
        (requests(limit="1Gi"), {}, 0),
        (requests(cpu="1"), {}, 0),
        ({}, {}, 0),  # best effort
        (requests("1Gi"), {"priority": 2_000_000_000}, 0),
        (requests("9Gi"), {}, 0),
    ],
)
def test_a_burstable_container_has_of_the_swap_what_it_asks_for_of_the_memory(
    fields: dict[str, Any], spec: dict[str, Any], bytes_of_swap: int
) -> None:
    one = pod(containers=[container(**fields)], **spec)
    assert swap.limit(one, one.containers[0], "LimitedSwap", 8 * GIB, 4 * GIB) == bytes_of_swap
    assert swap.limit(one, one.containers[0], "NoSwap", 8 * GIB, 4 * GIB) == 0
    assert swap.limit(one, one.containers[0], "", 8 * GIB, 4 * GIB) is None


def test_no_limit_is_set_where_nothing_is_said() -> None:
    assert swap_limit(None) == {} and swap_limit(0) == {"unified": {"memory.swap.max": "0"}}


def test_it_is_limited_where_the_kernel_counts_it(tmp_path: Path) -> None:
    group = tmp_path / "kubeedge"
    group.mkdir()
    (group / "memory.swap.max").touch()
    assert not cgroups.limits_swap("kubeedge", tmp_path), "not v2"
    (tmp_path / "cgroup.controllers").touch()
    assert cgroups.limits_swap("kubeedge", tmp_path) and not cgroups.limits_swap("other", tmp_path)
    (group / "memory.swap.max").unlink()
    assert not cgroups.limits_swap("kubeedge", tmp_path)


def test_huge_pages_that_are_set_aside_are_a_resource_of_the_node(tmp_path: Path) -> None:
    for name, count in (("2048kB", "32"), ("1048576kB", "0"), ("64kB", "3"), ("oddkB", "1"), ("16384kB", "x")):
        (tmp_path / f"hugepages-{name}").mkdir()
        (tmp_path / f"hugepages-{name}/nr_hugepages").write_text(count + "\n")
    assert node.huge_pages(tmp_path) == {"hugepages-2Mi": "64Mi", "hugepages-64Ki": "192Ki"}
    assert node.huge_pages(tmp_path / "none") == {}
