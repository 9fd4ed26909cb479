"""src/_fastpath is packages whose includes point one way; what it exports has its prefix; what is compiled has a .pyi file that names all of it."""

from __future__ import annotations

import ast
import graphlib
import importlib
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FASTPATH = ROOT / "src" / "_fastpath"
PACKAGES = (
    "packet",
    "link",
    "plane",
    "l4",
    "http",
)  # each may include its own headers and those of the packages before it
PROGRAMS = ("pause",)  # which stand alone
UPPER_WORDS = re.compile(r"\bkb_(l4|conn|proxy|http|text|slice)\w*|\bhttp\b")  # of l4 and http


def files() -> list[Path]:
    found = [path for package in PACKAGES for path in sorted((FASTPATH / package).glob("*.[ch]"))]
    assert len(found) > 40
    return found


def includes(path: Path) -> list[str]:
    return re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE)


def test_there_is_no_c_outside_of_the_packages() -> None:
    assert {path.parent.name for path in FASTPATH.rglob("*.[ch]")} == {*PACKAGES, *PROGRAMS}
    assert not any(includes(path) for program in PROGRAMS for path in (FASTPATH / program).iterdir())


@pytest.mark.parametrize("path", files(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_file_includes_its_own_package_and_those_below(path: Path) -> None:
    package = path.parent.name
    allowed = PACKAGES[: PACKAGES.index(package) + 1]
    for included in includes(path):
        owner, _, name = included.partition("/")
        assert (FASTPATH / included).is_file(), f"{included} is not written from the root of src/_fastpath"
        assert owner in allowed, f"{package} is below {owner}"
        assert name != "internal.h" or owner == package, f"{included} is {owner}'s own business"


def test_headers_include_each_other_without_a_cycle() -> None:
    graph = {str(path.relative_to(FASTPATH)): includes(path) for path in files()}
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_one_file_knows_the_format_of_frames() -> None:
    knows = re.compile(r"\bKB_(TENANT_PACKET|TENANT_SEGMENT|HEADER)\b")
    assert {path.name for path in files() if knows.search(path.read_text())} == {"frame.h", "frame.c"}


def test_the_plane_does_not_know_who_lives_in_it() -> None:
    for path in files():
        if path.parent.name in ("packet", "link", "plane"):
            code = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
            assert not (found := UPPER_WORDS.search(code)), f"{path.name}: {found[0]}"


@pytest.mark.parametrize("name", ["plane", "checksum"])
def test_every_external_symbol_has_the_prefix(name: str) -> None:
    (module,) = FASTPATH.glob(f"{name}.*.so")
    listed = subprocess.run(
        ["nm", "--defined-only", "--extern-only", str(module)], check=True, capture_output=True, text=True
    ).stdout
    symbols = [line.split()[2] for line in listed.splitlines()]
    assert len(symbols) > (150 if name == "plane" else 1), "it was stripped"
    ours = [s for s in symbols if not s.startswith(("PyInit_", "__pyx_", "_"))]
    assert [s for s in ours if not s.startswith("kb_")] == []


@pytest.mark.parametrize("name", ["plane", "checksum"])
def test_the_stub_names_what_the_module_has(name: str) -> None:
    module = importlib.import_module(f"kubeedge._fastpath.{name}")
    stub = ast.parse((FASTPATH / f"{name}.pyi").read_text())
    named = {node.name: node for node in stub.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    own = {n for n, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__ and n[0] != "_"}
    assert set(named) == own
    for class_name, node in named.items():
        if isinstance(node, ast.ClassDef):
            members = {
                n.target.id if isinstance(n, ast.AnnAssign) else n.name  # type: ignore[union-attr]
                for n in node.body
                if isinstance(n, ast.AnnAssign | ast.FunctionDef)
            }
            has = {n for n in vars(getattr(module, class_name)) if not n.startswith("_")}
            assert members - {"__init__"} == has, class_name
