"""Pods with users of their own: which ranges they get, and what such a pod cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubeedge.appengine.core import PodObservation
from kubeedge.appengine.prepare import Preparer
from kubeedge.appengine.runtime import oci_spec
from kubeedge.appengine.runtime.base import RANGE, StartError
from kubeedge.appengine.runtime.cri import configs
from kubeedge.appengine.user_ranges import COUNT, FIRST, UserRanges
from kubeedge.errors import Invalid
from tests.unit.appengine.world import container, pod


def test_a_range_is_kept_until_its_pod_is_gone_also_over_a_restart(tmp_path: Path) -> None:
    ranges = UserRanges(tmp_path / "users")
    first, second, same = [ranges.of(uid) for uid in ("a", "b", "a")]
    assert first == same != second and abs(first - second) >= RANGE
    again = UserRanges(tmp_path / "users")
    assert again.of("b") == second
    again.release("a")
    again.release("a")
    assert again.of("c") not in (first, second) and sorted(f.name for f in (tmp_path / "users").iterdir()) == ["b", "c"]
    UserRanges(tmp_path / "users").sweep(["c", "d"])
    assert [f.name for f in (tmp_path / "users").iterdir()] == ["c"]


def test_no_two_pods_have_one_range_whatever_the_files_say(tmp_path: Path) -> None:
    directory = tmp_path / "users"
    directory.mkdir()
    for name, text in (
        ("empty", ""),
        ("zero", "0"),
        ("huge", str(2**40)),
        ("words", "x" * 5000),
        (".half", str(FIRST)),
    ):
        (directory / name).write_text(text)
    (directory / "other").write_text(str(FIRST))
    ranges = UserRanges(directory)
    found = [ranges.of(uid) for uid in ("empty", "zero", "huge", "words", "other")]
    assert (
        len(set(found)) == 5
        and found[-1] == FIRST
        and all((first - FIRST) % RANGE == 0 for first in found)
        and all(FIRST <= first < 2**31 for first in found)
    )


def test_there_are_so_many_ranges(tmp_path: Path) -> None:
    ranges = UserRanges(tmp_path)
    ranges._known = {f"u{n}": FIRST + n * RANGE for n in range(COUNT)}
    with pytest.raises(StartError, match="taken"):
        ranges.of("one more")
    assert FIRST + COUNT * RANGE == 2**31


def test_pods_of_two_nodes_have_other_users_and_a_range_is_taken_once(tmp_path: Path) -> None:
    """Where they begin to look is chosen by the uid."""
    found = {UserRanges(tmp_path / uid).of(uid) for uid in map(str, range(20))}
    assert len(found) == 20
    ranges = UserRanges(tmp_path / "full")
    ranges._known = {f"u{n}": FIRST + n * RANGE for n in range(COUNT - 1)}
    assert ranges.of("the last") == FIRST + (COUNT - 1) * RANGE


def test_only_a_pod_that_asks_for_it_has_one(tmp_path: Path) -> None:
    preparer = Preparer(node="edge1", host_ip="10.0.0.1", state=tmp_path, log_root=tmp_path / "logs")
    assert preparer.sandbox(pod(), PodObservation("u1")).first_user == 0 and not (tmp_path / "users").exists()
    mine = preparer.sandbox(pod(hostUsers=False), PodObservation("u1"))
    assert FIRST <= mine.first_user == preparer.sandbox(pod(hostUsers=False), PodObservation("u1")).first_user


@pytest.mark.parametrize("shared", ["hostNetwork", "hostPID", "hostIPC"])
def test_what_it_shares_with_the_machine_would_belong_to_others(shared: str) -> None:
    with pytest.raises(Invalid, match=shared):
        pod(hostUsers=False, **{shared: True})
    assert pod(hostUsers=True, **{shared: True}).host_users


def test_all_of_proc_is_for_pods_with_users_of_their_own() -> None:
    open_proc = container(securityContext={"procMount": "Unmasked"})
    with pytest.raises(Invalid, match="hostUsers"):
        pod(containers=[open_proc])
    (found,) = pod(hostUsers=False, containers=[open_proc]).containers
    assert found.security.unmasked


def test_an_oci_runtime_is_told_whom_users_are_mapped_to() -> None:
    assert oci_spec.user_mappings(0) == {}
    mapping = [{"containerID": 0, "hostID": FIRST, "size": 65536}]
    assert oci_spec.user_mappings(FIRST) == {"uidMappings": mapping, "gidMappings": mapping}


def test_a_cri_runtime_is_told_as_well(tmp_path: Path) -> None:
    preparer = Preparer(node="edge1", host_ip="10.0.0.1", state=tmp_path, log_root=tmp_path / "logs")

    def options(**fields: Any) -> Any:
        sandbox = preparer.sandbox(pod(**fields), PodObservation("u1"))
        made = configs.sandbox(sandbox, node="edge1", attempt=0, cgroup_parent="/x")
        return made["linux"]["security_context"]["namespace_options"].get("userns_options")

    first = preparer.users.of("u1")
    mapping = [{"host_id": first, "container_id": 0, "length": 65536}]
    assert options() is None and options(hostUsers=False) == {"mode": 0, "uids": mapping, "gids": mapping}
