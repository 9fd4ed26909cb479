"""Whatever program the agent runs is looked for before a machine joins."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kubeedge.cli import preflight

SOURCES = Path(preflight.__file__).parents[1]
_RUN = re.compile(r"(?:subprocess\.(?:run|Popen)|create_subprocess_exec|which)\(\s*\[?\s*\"([a-z][-a-z0-9_]*)\"")
_NAMED_ELSEWHERE = {
    "crun", "runc",  # one of the two
    "systemctl",  # service.py looks for systemd itself
    "ctr",  # containerd's own, and only with `runtime: cri`
    "reboot",  # of an image for cards, which has it
}  # fmt: skip


def run_by_the_sources() -> set[str]:
    return {name for path in SOURCES.rglob("*.py") for name in _RUN.findall(path.read_text())}


def test_every_program_that_is_run_is_checked() -> None:
    run = run_by_the_sources()
    assert {"conmon", "nft"} <= run, "the search finds what is known to be there"
    assert run - set(preflight._PROGRAMS) - _NAMED_ELSEWHERE == set()


def test_each_missing_program_and_plugin_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plugins = tmp_path / "cni"
    plugins.mkdir()
    (plugins / "bridge").touch()
    monkeypatch.setattr(preflight, "_CNI_DIRS", (str(plugins),))
    monkeypatch.setattr(preflight.shutil, "which", lambda name: None if name in preflight._PROGRAMS else name)
    monkeypatch.setattr(preflight.os, "geteuid", lambda: 0)
    said = "\n".join(preflight.check(tmp_path))
    for program, (_, package) in preflight._PROGRAMS.items():
        assert f"{program} is missing" in said and f"apt-get install {package})" in said
    assert "(host-local, portmap)" in said and "bridge" not in said.split("CNI plugins")[1].split(";")[0]
