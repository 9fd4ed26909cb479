"""Parts of what the OCI runtime is given, and files of control groups, without a container."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api.pod import ResourceRequirements
from kubeedge.appengine.runtime import app_armor, cgroups, image_volumes, oci_spec, programs
from kubeedge.appengine.runtime.base import BindMount, StartError
from kubeedge.appengine.runtime.image_config import ImageConfig
from kubeedge.appengine.runtime.oci_spec import ContainerUser, Namespaces
from kubeedge.appengine.runtime.programs import Programs
from kubeedge.appengine.runtime.users import resolve
from tests.kit.topology import until
from tests.unit.appengine.world import container, pod

USER = ContainerUser(0, 0, (), "/root")
IMAGE = ImageConfig(("sh",), (), (), "/", "")


def spec(
    *mounts: BindMount, namespaces: Namespaces | None = None, app_armor: str = "", **fields: Any
) -> dict[str, Any]:
    (c,) = pod(containers=[container(**fields)]).containers
    return oci_spec.build(
        c, IMAGE, user=USER, rootfs=Path("/r"), env={}, mounts=mounts, namespaces=namespaces or Namespaces("n", "i", "u"),
        cgroup="/c", oom_score_adj=0, capabilities=None, groups=(), app_armor=app_armor,
    )  # fmt: skip


def kinds(of: dict[str, Any]) -> dict[str, str]:
    return {n["type"]: n.get("path", "") for n in of["linux"]["namespaces"]}


def test_namespaces_are_new_joined_or_the_machine_s() -> None:
    assert kinds(spec()) == {"pid": "", "mount": "", "network": "n", "ipc": "i", "uts": "u"}
    shared = kinds(spec(namespaces=Namespaces("n", "i", "u", "/proc/7/ns/pid")))
    assert shared["pid"] == "/proc/7/ns/pid"
    assert kinds(spec(namespaces=Namespaces("", "", "", ""))) == {"mount": ""}
    unified = Namespaces("", "", "", "", own_groups=True)
    assert kinds(spec(namespaces=unified)) == {"mount": "", "cgroup": ""}
    assert kinds(spec(namespaces=unified, securityContext={"privileged": True})) == {"mount": ""}


@pytest.mark.parametrize(("privileged", "access"), [(False, "ro"), (True, "rw")])
def test_a_container_sees_its_own_control_groups(privileged: bool, access: str) -> None:
    (mount,) = [m for m in spec(securityContext={"privileged": privileged})["mounts"] if m["type"] == "cgroup"]
    assert mount["destination"] == "/sys/fs/cgroup" and access in mount["options"]


def test_mounts_say_how_far_they_reach() -> None:
    plain, slave = BindMount(Path("/a"), "/a", True), BindMount(Path("/b"), "/b", propagation="HostToContainer")
    deep = BindMount(Path("/c"), "/c", True, recursive_read_only="IfPossible")
    image = BindMount(Path("/d"), "/d", True, image="demo:1")
    made = spec(plain, slave, deep, image)
    options = {m["destination"]: m["options"] for m in made["mounts"] if m["type"] == "bind"}
    assert options == {
        "/a": ["rbind", "rprivate", "ro"],
        "/b": ["rbind", "rslave", "rw"],
        "/c": ["rbind", "rprivate", "ro", "rro"],
        "/d": ["rbind", "rprivate", "ro", "noexec"],
    }
    assert made["linux"]["rootfsPropagation"] == "rslave" and "rootfsPropagation" not in spec(plain)["linux"]
    both = spec(slave, BindMount(Path("/e"), "/e", propagation="Bidirectional"))
    assert both["linux"]["rootfsPropagation"] == "rshared"


@pytest.mark.parametrize("name", ["NET-RAW", "CAP_BOGUS", "", "CAP_", "NET_ADMIN ", "0", "all_of_them"])
@pytest.mark.parametrize("verb", ["add", "drop"])
def test_a_capability_that_there_is_not_is_refused_by_its_name(name: str, verb: str) -> None:
    """It was passed over: what was to be dropped was kept."""
    with pytest.raises(StartError, match=f"unknown capability {name!r} to {verb}") as caught:
        spec(securityContext={"capabilities": {verb: ["CHOWN", name]}})
    assert caught.value.reason == "CreateContainerError"


def test_capabilities_are_named_with_and_without_their_prefix() -> None:
    made = spec(securityContext={"capabilities": {"drop": ["all"], "add": ["net_admin", "CAP_BPF"]}})
    assert made["process"]["capabilities"]["bounding"] == ["CAP_BPF", "CAP_NET_ADMIN"]
    made = spec(securityContext={"capabilities": {"drop": ["NET_RAW"], "add": ["ALL"]}})
    assert "CAP_NET_RAW" in made["process"]["capabilities"]["bounding"]


@pytest.mark.parametrize(
    ("mount", "why"),
    [
        (BindMount(Path("/v"), "/proc"), "only the node's own /proc"),
        (BindMount(Path("/proc"), "/proc", image="demo:1"), "only the node's own /proc"),
        (BindMount(Path("/v"), "/proc/self/attr/../attr"), "inside /proc"),
        (BindMount(Path("/v"), "/"), "root of the container"),
        (BindMount(Path("/v"), "/sys"), "only the node's own /sys"),
        (BindMount(Path("/v"), "/x/../dev"), "only the node's own /dev"),
    ],
)
def test_no_mount_is_over_what_a_container_consists_of(mount: BindMount, why: str) -> None:
    with pytest.raises(StartError, match=why):
        spec(BindMount(Path("/a"), "/a"), mount)
    spec(
        BindMount(Path("/proc"), "/proc"),
        BindMount(Path("/dev"), "/dev"),
        BindMount(Path("/m"), "/dev/termination-log"),
    )


def test_an_image_with_a_volume_over_proc_is_refused(tmp_path: Path) -> None:
    """With a root that cannot be written to its directory was mounted there: it had forged what confines the process (CVE-2019-16884)."""
    (tmp_path / "proc" / "self" / "attr").mkdir(parents=True)
    mounts = image_volumes.prepare(tmp_path, ["/proc", "/data"], [], read_only_root=True)
    with pytest.raises(StartError, match="cannot mount at '/proc'"):
        spec(*mounts)


def test_huge_pages_and_a_profile_are_passed_on() -> None:
    made = spec(resources={"limits": {"hugepages-2Mi": "4Mi", "memory": "8Mi"}}, app_armor="mine")
    assert made["linux"]["resources"]["hugepageLimits"] == [{"pageSize": "2MB", "limit": 4 << 20}]
    assert made["process"]["apparmorProfile"] == "mine"
    assert "hugepageLimits" not in spec()["linux"]["resources"] and "apparmorProfile" not in spec()["process"]


def test_devices_are_those_of_other_runtimes() -> None:
    """A VPN's pod mounts /dev/net/tun from the machine, and needs CAP_NET_ADMIN to do anything with it."""
    first, *allowed = spec()["linux"]["resources"]["devices"]
    assert first == {"allow": False, "access": "rwm"}
    assert {(d["major"], d.get("minor")) for d in allowed} == {
        (1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (10, 200), (136, None),
    }  # fmt: skip


def test_limits_for_an_update() -> None:
    assert oci_spec.limits_of(ResourceRequirements(500, 1 << 20, 250, 0)) == {
        "cpu": {"shares": 256, "period": 100_000, "quota": 50_000}, "memory": {"limit": 1 << 20},
    }  # fmt: skip
    assert oci_spec.limits_of(ResourceRequirements(None, None, 0, 0)) == {"cpu": {"shares": 2}}


def security(kind: str, name: str = "", **fields: Any) -> Any:
    profile = {"type": kind, **({"localhostProfile": name} if name else {})}
    return pod(containers=[container(securityContext={"appArmorProfile": profile, **fields})]).containers[0].security


def test_an_app_armor_profile_is_one_that_the_kernel_has_loaded(tmp_path: Path) -> None:
    enabled, profiles = tmp_path / "enabled", tmp_path / "profiles"
    with pytest.raises(StartError, match="has no AppArmor"):
        app_armor.profile_of(security("Localhost", "mine"), enabled, profiles)
    enabled.write_text("Y\n")
    profiles.write_text("other (complain)\nmine (enforce)\n/usr/bin/man (enforce)\n")
    assert app_armor.profile_of(security("Localhost", "mine"), enabled, profiles) == "mine"
    for kind in (security("Unconfined"), security("RuntimeDefault", privileged=True)):
        assert app_armor.profile_of(kind, enabled, profiles) == ""
    with pytest.raises(StartError, match="'yours' is not loaded"):
        app_armor.profile_of(security("Localhost", "yours"), enabled, profiles)
    with pytest.raises(StartError, match="no profile of its own"):
        app_armor.profile_of(security("RuntimeDefault"), enabled, profiles)


def test_strict_groups_are_those_of_the_pod_alone(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("web:x:1000:1000::/home/web:/bin/sh\n")
    (tmp_path / "etc/group").write_text("web:x:1000:\nextra:x:4242:web\n")
    assert resolve(tmp_path, "web", None, None).groups == (4242,)
    assert resolve(tmp_path, "web", None, None, strict=True) == ContainerUser(1000, 1000, (), "/home/web")


def test_users_are_found_through_links_and_only_in_the_image(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "store/base").mkdir(parents=True)
    (root / "store/base/passwd").write_text("web:x:1000:1001::/home/web:/bin/sh\n")
    (tmp_path / "passwd").write_text("outside:x:7:7::/:/bin/sh\n")
    (root / "etc").symlink_to("/store/links")  # as images of Nix have them
    (root / "store/links").mkdir()
    passwd = root / "store/links/passwd"
    passwd.symlink_to("../../../../store/./base/passwd")
    assert resolve(root, "web", None, None) == ContainerUser(1000, 1001, (), "/home/web")
    for target in (str(tmp_path / "passwd"), "../../../passwd", "passwd", "/etc/passwd"):
        passwd.unlink()
        passwd.symlink_to(target)
        with pytest.raises(StartError, match="has no user"):
            resolve(root, "outside", None, None)
        assert resolve(root, "7", None, None) == ContainerUser(7, 0, (), "/")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_memory_in_use_and_limits_that_are_lifted(tmp_path: Path, version: str) -> None:
    group = tmp_path / ("x/pod1" if version == "v2" else "memory/x/pod1")
    group.mkdir(parents=True)
    (tmp_path / ("cgroup.controllers" if version == "v2" else "memory/cgroup.procs")).write_text("")
    used, stat, limit = {
        "v1": ("memory.usage_in_bytes", "total_inactive_file", "memory.limit_in_bytes"),
        "v2": ("memory.current", "inactive_file", "memory.max"),
    }[version]
    (group / used).write_text("4096\n")
    (group / "memory.stat").write_text(f"cache 2048\n{stat} 1024\n")
    (group / limit).write_text("8192\n")
    assert cgroups.memory_in_use("x/pod1", tmp_path) == 3072
    cgroups.lift("x/pod1", "memory", tmp_path)
    assert (group / limit).read_text() == ("-1" if version == "v1" else "max")
    cgroups.lift("x/pod1", "cpu", tmp_path)  # where nothing limits it there is nothing to lift
    assert cgroups.memory_in_use("x/none", tmp_path) == 0


def test_a_runtime_class_has_a_program_and_a_state_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("crun", "youki", "other"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert programs.handlers() == ["crun", "youki"]
    default = Programs(conmon="conmon", runtime="/usr/bin/crun", state=Path("/run/x/oci"), version="")
    assert default.of("") is default
    youki = default.of("youki")
    assert (youki.runtime, youki.state) == (str(tmp_path / "youki"), Path("/run/x/oci-youki"))


def test_the_first_process_of_a_shared_namespace_waits_and_reaps() -> None:
    """The program as it is, without a namespace: it neither ends nor leaves a zombie."""
    program = importlib.util.find_spec("kubeedge._fastpath.pause")
    assert program is not None and program.origin is not None
    with subprocess.Popen([program.origin]) as process:

        def field(name: str) -> str:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            return next(line.split()[1] for line in lines if line.startswith(name))

        try:
            until(lambda: int(field("SigIgn:"), 16) >> 16 & 1, timeout=20, what="SIGCHLD is ignored")
            until(lambda: field("State:") == "S", timeout=20, what="it waits")
            assert process.poll() is None
        finally:
            process.kill()
