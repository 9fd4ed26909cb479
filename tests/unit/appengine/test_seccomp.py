"""Seccomp filters: the default list goes by architecture and capability, and what asks for a filter never runs without."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api.pod import Security
from kubeedge.appengine.runtime import seccomp, seccomp_profiles
from kubeedge.appengine.runtime.base import StartError
from kubeedge.appengine.runtime.oci_spec import CAPABILITIES
from kubeedge.errors import Invalid
from tests.unit.appengine.world import container, pod


def security(kind: str, profile: str = "", *, privileged: bool = False) -> Security:
    return Security(None, None, False, privileged, False, True, (), (), kind, profile)


def names(profile: dict[str, Any]) -> set[str]:
    """Allowed whatever the arguments."""
    return {
        n for rule in profile["syscalls"] if not rule.get("args") and "ALLOW" in rule["action"] for n in rule["names"]
    }


def test_ordinary_programs_may_call_what_they_need_and_no_more() -> None:
    default = seccomp.runtime_default("x86_64", CAPABILITIES)
    assert default["defaultAction"] == "SCMP_ACT_ERRNO"
    allowed = names(default)
    assert {"read", "openat", "execve", "futex", "chroot", "arch_prctl", "clone"} - allowed == {"clone"}
    assert not allowed & {
        "unshare", "mount", "setns", "bpf", "keyctl", "add_key", "request_key", "kexec_load", "io_uring_setup",
        "userfaultfd", "init_module", "perf_event_open", "reboot", "swapon", "open_by_handle_at", "clone3", "socket",
    }  # fmt: skip
    by_argument = {rule["names"][0]: rule for rule in default["syscalls"] if rule.get("args")}
    assert by_argument["clone"]["args"][0] == {
        "index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ",
    }  # fmt: skip
    assert by_argument["socket"]["args"][0]["value"] == 40
    (clone3,) = [r for r in default["syscalls"] if r["names"] == ["clone3"]]
    assert clone3["errnoRet"] == 38  # libc falls back to clone for this one alone


def test_a_capability_brings_its_system_calls() -> None:
    held = seccomp.runtime_default("x86_64", [*CAPABILITIES, "CAP_SYS_ADMIN", "CAP_SYS_TIME"])
    assert {"mount", "unshare", "clone", "clone3", "clock_settime"} <= names(held)
    assert not any(r["names"] == ["clone3"] and "ERRNO" in r["action"] for r in held["syscalls"])
    assert "chroot" not in names(seccomp.runtime_default("x86_64", []))


def test_each_architecture_has_its_own_and_its_smaller_brothers() -> None:
    arm = seccomp.runtime_default("aarch64", ())
    assert arm["architectures"] == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    assert "cacheflush" in names(arm) and "arch_prctl" not in names(arm)
    assert seccomp.runtime_default("armv7l", ())["architectures"] == ["SCMP_ARCH_ARM"]
    with pytest.raises(StartError, match="no filter is known for vax"):
        seccomp.runtime_default("vax", ())


def test_what_asks_for_a_filter_does_not_start_without(tmp_path: Path) -> None:
    without = seccomp_profiles.Filters(tmp_path, "x86_64", supported=False)
    for kind in ("RuntimeDefault", "Localhost"):
        with pytest.raises(StartError, match="has no seccomp") as error:
            without.of(security(kind, "p.json"), ())
        assert error.value.reason == "CreateContainerError"
    for free in (security(""), security("Unconfined"), security("RuntimeDefault", privileged=True)):
        assert without.of(free, ()) is None
    assert seccomp_profiles.Filters(tmp_path, "x86_64", supported=True).of(security("RuntimeDefault"), ()) is not None


def test_a_profile_of_the_node_is_read_from_its_directory_alone(tmp_path: Path) -> None:
    profiles = tmp_path / "seccomp"
    (profiles / "d").mkdir(parents=True)
    rules = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}
    (profiles / "d/p.json").write_text(json.dumps(rules))
    filters = seccomp_profiles.Filters(profiles, "x86_64", supported=True)
    found = filters.of(security("Localhost", "d/p.json"), ())
    assert found is not None and found["syscalls"] == rules["syscalls"] and "SCMP_ARCH_X86_64" in found["architectures"]
    (tmp_path / "outside.json").write_text(json.dumps(rules))
    (profiles / "link.json").symlink_to(tmp_path / "outside.json")
    (profiles / "large.json").write_text(json.dumps(rules) + " " * 300_000)
    os.mkfifo(profiles / "fifo")
    bad = {
        "none.json": "No such file", "link.json": "outside", "large.json": "larger", "d": "directory", "fifo": "not a file",
    }  # fmt: skip
    for name, why in bad.items():
        with pytest.raises(StartError, match=why):
            filters.of(security("Localhost", name), ())


@pytest.mark.parametrize(
    "profile",
    [
        "[]",
        "{}",
        "[" * 100_000,
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [1]}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscall": []}',  # a slip of the pen is not an open filter
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "includes": {"caps": ["CAP_X"]}}]}',
    ],
)
def test_a_profile_that_says_less_than_it_seems_to_is_refused(tmp_path: Path, profile: str) -> None:
    (tmp_path / "p.json").write_text(profile)
    with pytest.raises(StartError, match=r"Localhost: .*p\.json"):
        seccomp_profiles.Filters(tmp_path, "x86_64", supported=True).of(security("Localhost", "p.json"), ())


def test_the_container_s_profile_goes_before_the_pod_s() -> None:
    both = pod(
        securityContext={"seccompProfile": {"type": "RuntimeDefault"}},
        containers=[container(), container("own", securityContext={"seccompProfile": {"type": "Unconfined"}})],
    )
    assert [c.security.seccomp for c in both.containers] == ["RuntimeDefault", "Unconfined"]
    assert both.unsupported == ()


@pytest.mark.parametrize(
    "profile",
    [
        {"type": "runtime/default"},
        {"localhostProfile": "x"},
        {"type": "Localhost"},
        {"type": "RuntimeDefault", "localhostProfile": "x"},
        {"type": "Localhost", "localhostProfile": "../x"},
        {"type": "Localhost", "localhostProfile": "/etc/x"},
    ],
)
def test_a_profile_that_is_none_is_refused(profile: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="seccompProfile"):
        pod(containers=[container(securityContext={"seccompProfile": profile})])


def test_what_the_runtime_says_of_itself() -> None:
    assert seccomp.runtime_filters("crun version 1.8.1\n+SYSTEMD +SECCOMP +EBPF")
    assert seccomp.runtime_filters("runc version 1.1.5\nlibseccomp: 2.5.4")
    assert not seccomp.runtime_filters("crun version 1.8.1\n+SYSTEMD -SECCOMP")


def test_what_the_kernel_says_of_itself(tmp_path: Path) -> None:
    assert not seccomp_profiles.kernel_filters(tmp_path)
    actions = tmp_path / "sys/kernel/seccomp/actions_avail"
    actions.parent.mkdir(parents=True)
    actions.write_text("kill_thread errno allow\n")
    assert seccomp_profiles.kernel_filters(tmp_path)
