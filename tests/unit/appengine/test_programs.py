"""What the OCI runtime of this machine says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeedge.appengine.runtime import programs

CRUN = "crun version 1.8.1\ncommit: f8a096\nspec: 1.0.0\n+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF +YAJL\n"


@pytest.mark.parametrize(("said", "filters"), [(CRUN, True), (CRUN.replace("+SECCOMP ", ""), False)])
def test_the_runtimes_version_and_whether_it_filters_system_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, filters: bool
) -> None:
    for name in ("crun", "runc"):
        (tmp_path / name).write_text(f"#!/bin/sh\nprintf '%s' '{said}'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = programs.find(tmp_path)
    assert found.version.endswith("-1.8.1") and found.has_seccomp is filters
