"""The runtime interface with real containers: exec and attach as streams, images, sandboxes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeedge.appengine.runtime import mounts
from tests.kit import containerd, control_groups, images
from tests.kit.runtime_host import IMAGE
from tests.kit.topology import Topology
from tests.kit.upstream import build

pytestmark = pytest.mark.root
ROOT = Path(__file__).parents[2]
Scenario = Callable[[str], dict[str, Any]]
#: Debian's containerd; `make test-containerd` builds release 2 from its module, which takes minutes, and tests that instead
BEHIND_CRI = ["containerd2"] if os.environ.get("CONTAINERD2") else ["containerd"]


@pytest.fixture(params=["crun", "runc", *BEHIND_CRI])
def play(topology: Topology, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Scenario]:
    """What a scenario of runtime_host saw, with one of the OCI runtimes, or behind CRI."""
    without = {"crun": "runc", "runc": "crun"}.get(request.param, "")
    with scenarios(
        topology, tmp_path, without=without, cri=request.param if request.param.startswith("containerd") else ""
    ) as run:
        yield run


@contextlib.contextmanager
def scenarios(
    topology: Topology, tmp_path: Path, *, without: str = "", cri: str = "", extra: Path | None = None
) -> Iterator[Scenario]:
    """`extra`: a directory of programs."""
    root, cgroup = tmp_path / "r", f"kb-test-{os.getpid()}"
    preload = root / "state/images/preload"
    preload.mkdir(parents=True)
    images.build(preload / "demo.tar", IMAGE)
    host = topology.host("edge1")
    assert shutil.which("runc") and shutil.which("crun")
    if without:
        host.run("mount", "--bind", "/dev/null", str(shutil.which(without)))  # in the mount namespace of the host alone
    path = os.environ["PATH"]
    if cri:
        programs = containerd.newest(tmp_path / "bin") if cri == "containerd2" else containerd.debian()
        containerd.start(host, tmp_path / "c", programs)
        path = f"{programs}:{path}"  # for ctr, which brings images in
    if extra:
        path = f"{extra}:{path}"

    def run(scenario: str) -> dict[str, Any]:
        config = {
            "root": str(root),
            "cgroup": cgroup,
            "scenario": scenario,
            "socket": str(containerd.SOCKET) if cri else "",
        }
        done = subprocess.run(
            host.command(sys.executable, "-m", "tests.kit.runtime_host", json.dumps(config)),
            capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path}, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "was never retrieved" not in done.stderr and "ResourceWarning" not in done.stderr, done.stderr
        seen: dict[str, Any] = json.loads(done.stdout)
        return seen

    try:
        yield run
    finally:
        host.power_cut()
        mounts.remove_tree(tmp_path / "c")
        control_groups.remove(cgroup)


def test_exec_has_its_own_streams_and_exit_status(play: Scenario) -> None:
    seen = play("streams_of_exec")
    assert seen["apart"] == {"stdout": "out\n", "stderr": "err\n", "code": 3}
    forwarded = (
        (4, 128 + 13) if seen["version"].startswith("embedded://runc") else (4,)
    )  # runc hands its own SIGPIPE on
    assert seen["killed"] == 137 and seen["deaf"] in forwarded and seen["missing"] not in (0, None)
    assert seen["no_input"] == {"stdout": "", "stderr": "", "code": 0}
    assert seen["echoed"] == [1024 * 1024, 0]


@pytest.mark.parametrize("play", ["crun"], indirect=True)  # runc copies the streams, and waits for their end
def test_an_exit_status_does_not_wait_for_children_that_keep_the_streams(play: Scenario) -> None:
    assert play("a_child_that_keeps_the_streams") == {"code": 8}


def test_a_process_of_exec_ends_with_its_streams_and_with_its_container(play: Scenario) -> None:
    seen = play("the_end_of_exec")
    assert seen["before"] == 2 and seen["ended"] == 137 and seen["sync"] == 126 and seen["pid_files"] == []
    assert len(seen["refused"]) == 3 and all("does not run" in said for said in seen["refused"])


def test_a_terminal_has_a_size_and_hangs_up(play: Scenario) -> None:
    seen = play("a_terminal")
    assert "terminal" in seen["begun"] and "44 55" in seen["early"]
    assert "33 101" in seen["rest"]["stdout"] and seen["rest"]["code"] == 5 and seen["status"] == 0


def test_attach_shares_the_container_s_streams_and_leaves_it_running(play: Scenario) -> None:
    seen = play("streams_of_attach")
    assert seen["seen"] == {"stdout": "got one\n", "stderr": "err one\n"} and seen["left"] is None
    assert all("got two" in text and "not heard" not in text for text in seen["heard"])
    assert seen["codes"] == [6, 6] and seen["exit"] == [True, 6]


def test_attach_to_a_terminal_changes_its_size(play: Scenario) -> None:
    seen = play("attach_to_a_terminal")
    assert "22 77" in seen["stdout"] and seen["code"] == 7


def test_an_image_in_use_keeps_its_layers_and_a_sandbox_says_how_it_is(play: Scenario) -> None:
    seen = play("images_and_sandboxes")
    assert seen["image"] == [True, [IMAGE]] and seen["status"][0] and seen["status"][1].startswith("10.244.1.")
    assert seen["version"].startswith(f"{seen['scheme']}://") and seen["none"]
    if seen["scheme"] == "containerd":
        assert seen["gone"] and seen["still"] == "still\n" and '"kata"' in seen["handler"]
        return
    layers = seen["layers"]
    assert layers["kept"] and layers["still"] == "still\n" and layers["gone"] and layers["restored"]
    assert layers["left"] == [] and seen["scheme"] == "embedded" and 'handler "kata"' in seen["handler"]
    assert set(seen["handlers"]) >= {"", seen["version"].split("//")[1].split("-")[0]}


def test_a_pod_has_the_names_parameters_and_namespaces_that_it_asks_for(play: Scenario) -> None:
    seen = play("namespaces_and_parameters")
    assert seen["parameters"] == ["81", "1"] and seen["environment"] == "héllo"
    assert seen["names"] == ["web-0.web.default.svc.cluster.local"] * 2
    assert "sleep 1000" in seen["target"][0] and seen["target"][1].count("sleep 1000") == 2, (
        "both see the same processes"
    )
    assert seen["own ipc"] and "debug" not in seen["no target"] and "does not run" in seen["no target"]
    assert seen["host"] == [True, True, "/dev/shm/of-the-machine"]
    assert "is too long (64 is the max" in seen["too long"] or "sethostname" in seen["too long"]
    assert seen["left"] == ["u1"]


def test_mounts_propagate_as_asked_and_images_are_volumes(play: Scenario) -> None:
    seen = play("mounts_and_groups")
    assert seen["late"] == ["file", ""]
    if "refused" in seen:  # containerd 1.6 has no words for the rest, and it must not be passed over in silence
        recursive, image, groups = seen["refused"]
        assert "no recursive read-only" in recursive and "image volumes" in image and "Strict" in groups
        assert seen["groups"].split() == ["1000", "4321", "Groups:", "1000", "4321"]
        return
    assert seen["writes"] == {"/plain": "", "/all": "no"}
    assert seen["image"] == "there" and seen["image writes"] == "no"
    if (
        "layers" not in seen
    ):  # containerd 2.4 lets programs of image volumes run, and counts the group of a user among its groups
        assert seen["groups"].split() == ["1000", "4321", "Groups:", "1000", "4321"]
        return
    assert seen["image runs"] == "no" and seen["layers"] == []
    assert seen["groups"].split() == ["1000", "4321", "Groups:", "4321"], "of what is run in it, too"


def test_a_container_ends_by_its_own_signal_and_has_other_limits_while_it_runs(play: Scenario) -> None:
    seen = play("signals_and_resizes")
    assert {"33554432", "50000", "512"} <= set(seen["before"]) or "50000 100000" in seen["before"]
    assert {"67108864", "100000", "256"} <= set(seen["after"]) or "100000 100000" in seen["after"]
    assert not {"67108864", "100000"} & set(seen["lifted"]), "without a limit"
    assert "is below what is in use" in seen["too small"] and seen["still"] and seen["exit"] == 9 and seen["over"]


@pytest.mark.parametrize("play", ["crun", "runc"], indirect=True)  # behind CRI the first process is the runtime's own
def test_containers_share_their_processes_and_none_is_left_behind(play: Scenario) -> None:
    seen = play("shared_processes")
    assert seen["first"] == "/pause" and int(seen["both"]) == 2
    assert "pause" in seen["root of the first"] and "none" in seen["root of the first"], "nothing of the machine"
    assert seen["ended"] == ["other", 3] and seen["kilobytes"] < 100
    assert seen["again"] == [["debugger", "main"], "/pause"]
    assert seen["left"] == [1, 0, []]


def test_input_for_one_client_ends_with_it(play: Scenario) -> None:
    assert play("input_that_ends") == {"whole": [64 * 1024, 6], "left": 7}


def test_a_runtime_class_names_the_program_that_runs_a_pod(topology: Topology, tmp_path: Path) -> None:
    with scenarios(topology, tmp_path) as run:
        seen = run("another_oci_runtime")
    assert set(seen["handlers"]) >= {"", "crun", "runc"}
    for handler in ("crun", "runc"):
        code = seen[handler][3]
        assert seen[handler] == [handler, True, f"{handler}\n", code, []] and code == 9


def test_crictl_shows_the_same_pods_logs_and_processes(topology: Topology, tmp_path: Path) -> None:
    """The tool of CRI's makers, of the newest release, built once from its Go module."""
    with scenarios(topology, tmp_path, cri=BEHIND_CRI[0], extra=build.program("crictl").parent) as run:
        seen = run("what_crictl_shows")
    assert seen["pods"] == [["p", "default", "SANDBOX_READY"]] and seen["labels"] == "u1"
    assert seen["containers"] == [["main", "CONTAINER_RUNNING", True]] and seen["stats"] == [True]
    assert seen["logs"] == ["said"] and seen["log path"] and seen["images"]
    assert [said.strip() for said in seen["exec"]] == ["by a stream", "at once"]


def test_a_pod_has_users_of_its_own(topology: Topology, tmp_path: Path) -> None:
    with scenarios(topology, tmp_path) as run:
        seen = run("users_of_its_own")
    assert seen["map"] == ["0", "1879113728", "65536"] * 2
    assert seen["root"] == "0\n0:0\n65534:65534" or seen["root"] == "0\n0:0"
    assert seen["volumes"] == ["5:6"] * 3 and seen["on disk"] == [5, 6], "the same users on disk as in the container"
    assert seen["read"] == "of root" and seen["image"] == "1"
    assert seen["kept"].startswith("of the pod1\n") and "ro,nosuid,nodev" in seen["kept"], seen["kept"]
    assert seen["network"] == "1400\nx", "its network and name are its own to change"
    assert seen["device"] == "1" and seen["null"] == [0, 0o666], "those of the machine are not"
    assert 1879113728 in seen["processes"]
    assert seen["unmasked"].endswith("1000") and "cannot be mapped" in seen["bad"]
    assert seen["again"] == "1" and seen["closed"] == ["0o711", "0o700"]
    assert not seen["left"] and seen["mounted"] == [] and "needs runc" in seen["crun"]


def test_ends_are_told_usage_is_counted_and_a_restart_finds_everything(play: Scenario) -> None:
    seen = play("ends_and_survivors")
    assert seen["ended"] == [True, "u1", "short", 3, "", "why\n"] and seen["oom"] == ["hog", 137, "OOMKilled"]
    assert seen["forwarded"] == "hello\n" and seen["stats"] == [["again", "main"], True, True, True, True, True]
    assert seen["details"] == [True, {"again": True, "main": True}, ["eth0"]]
    assert seen["timeout"] == 124 and seen["hosts"] and seen["message"] == "why\n"
    assert seen["found"] == ["u1", "default", "p", True, True]
    assert seen["runs"] == {"again": None, "hog": 137, "main": None, "server": 0, "short": 3}
    assert seen["last"] == [True, 137]


@pytest.mark.parametrize("play", BEHIND_CRI, indirect=True)
def test_a_runtime_that_disappears_is_said_and_its_containers_are_found_again(play: Scenario) -> None:
    seen = play("a_runtime_that_disappears")
    assert seen["before"] == "" and "does not answer" in seen["gone"] and seen["refused"] == 126
    told = (
        [True, 5, ""],
        [True, 137, "ContainerStatusUnknown"],
    )  # containerd 2.4 does not know it after a crash, and says so
    assert seen["ended"] in told and seen["still"] == "here"
    assert seen["hangs"] == 4 and seen["answers"] == "containerd"
