"""What the agent may cost a disk: the wheel's contents, what it requires, and bytecode for all of it."""

from __future__ import annotations

import json
import py_compile
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.budgets.__main__ import LOADED
from bench.budgets.installation import dependencies, files_of
from bench.budgets.readings import MB

ROOT = Path(__file__).parents[3]
INSTALLED = 20 * MB
IMPORTED = 14 * MB
#: what an agent with every module on does without until somebody needs it, and what that was for
LATE = (
    "kubeedge.apiserver.server",  # the node's own API, before its first request
    "kubeedge.metaserver.pods",
    "kubeedge.streaming.spdy",  # exec
    "kubeedge.appengine.csi.client",
    "websockets.server",  # the cloud's end
    "email",
    "fractions",
    "decimal",
    "argparse",
    "yaml",
    "tarfile",
    "importlib.metadata",
)


def ours() -> Iterator[Path]:
    """What a wheel of this checkout has; modules that are compiled are found where they were built."""
    for directory in ("src/kubeedge", "src/_fastpath"):
        for path in (ROOT / directory).rglob("*"):
            if path.suffix in (".py", ".pyi", ".txt", ".so"):
                yield path


def test_the_installed_agent_with_its_dependencies_is_small(tmp_path: Path) -> None:
    files = [*ours(), *(source for name in dependencies("kubeedge") for source, _ in files_of(name))]
    total = sum(path.stat().st_size for path in files)
    for number, path in enumerate(path for path in files if path.suffix == ".py"):
        compiled = py_compile.compile(str(path), cfile=str(tmp_path / f"{number}.pyc"), doraise=True)
        assert compiled is not None
        total += Path(compiled).stat().st_size
    print(f"{total / MB:.1f} MB in {len(files)} files")
    assert sum(path.suffix == ".so" for path in ours()) >= 7, "nothing is compiled here"
    assert total < INSTALLED


def test_a_node_needs_three_pure_libraries() -> None:
    """Each further one is a wheel that ARM may lack, and megabytes."""
    assert sorted(dependencies("kubeedge")) == ["PyYAML", "h11", "websockets"]


def test_what_the_agent_loads_is_small_and_what_nobody_needs_yet_is_not_in_it() -> None:
    """Bytes of Python's own objects, whatever else the machine does; without docstrings, as images have it."""
    command = [sys.executable, "-OO", str(ROOT / "bench/budgets/imports.py"), *LOADED]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=600).stdout
    *modules, total = map(json.loads, said.splitlines())
    print("\n".join(f"{one['kB']:7.1f} kB  {one['module']}" for one in modules[:40]))
    assert not {one["module"] for one in modules} & {*LATE}
    assert total["kB"] * 1024 < IMPORTED
