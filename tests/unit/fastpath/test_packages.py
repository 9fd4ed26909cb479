"""src/_fastpath is packages whose includes and calls point one way; what it exports has its prefix; what is compiled has a .pyi file that names
all of it."""

from __future__ import annotations

import ast
import graphlib
import importlib
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FASTPATH = ROOT / "src" / "_fastpath"
#: packages, and the files of each, from below. A file may include the headers of its own package and of those before it, and refer to what is
#: defined in the files before it. So there is no cycle; who is below tells who is above by a callback that he was given.
LAYERS = {
    "packet": ("segmentation", "packet", "icmp"),
    "link": ("buffer", "frame", "queue", "transport", "link", "tcp_path", "credentials", "tls"),
    "plane": ("tenants", "ports", "events", "closing", "links", "forward", "thread", "calls"),
    "l4": ("budget", "memory", "send", "loss", "receive", "conn", "endpoint", "ready_queue", "in_plane"),
    "http": (
        *("text", "chunks", "head", "rewrite"),
        *("conn", "hosts", "upstream", "share", "session", "handover", "refusal", "request", "answer", "exchange"),
        *("listener", "deadlines", "proxy"),
    ),
    "dns": ("query", "answers", "responder"),
}
PACKAGES = tuple(LAYERS)
ORDER = [f"{package}/{name}" for package, names in LAYERS.items() for name in names]
#: strict enough to find a value that loses bits on its way into a narrower type
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror")
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


@dataclass(frozen=True, slots=True)
class Symbols:
    """External names of one object file."""

    defined: frozenset[str]
    needed: frozenset[str]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Symbols]:
    """{"package/file": symbols}, without those of libraries. A function whose address is taken counts like one that is called."""
    listed: dict[str, tuple[set[str], set[str]]] = {}
    for package in PACKAGES:
        directory = tmp_path_factory.mktemp(package)
        sources = map(str, sorted((FASTPATH / package).glob("*.c")))
        subprocess.run(["gcc", *WARNINGS, "-O1", "-c", f"-I{FASTPATH}", *sources], cwd=directory, check=True)
        for path in sorted(directory.glob("*.o")):
            nm = ["nm", "--extern-only", "--format=posix", str(path)]
            lines = subprocess.run(nm, check=True, capture_output=True, text=True).stdout.splitlines()
            defined, needed = listed.setdefault(f"{package}/{path.stem}", (set(), set()))
            for name, kind, *_ in map(str.split, lines):
                (needed if kind == "U" else defined).add(name)
    everything = set().union(*(defined for defined, _ in listed.values()))
    return {name: Symbols(frozenset(d), frozenset(n & everything)) for name, (d, n) in listed.items()}


def test_every_file_has_its_layer(objects: dict[str, Symbols]) -> None:
    assert sorted(objects) == sorted(ORDER)


def test_a_file_calls_only_those_before_it(objects: dict[str, Symbols]) -> None:
    owner = {symbol: name for name, symbols in objects.items() for symbol in symbols.defined}
    assert len(owner) > 150 and all(symbol.startswith("kb_") for symbol in owner)
    calls = [(name, owner[symbol], symbol) for name, symbols in objects.items() for symbol in symbols.needed]
    assert len(calls) > 300
    upwards = [f"{a} -> {b}: {s}" for a, b, s in sorted(calls) if ORDER.index(b) >= ORDER.index(a)]
    assert upwards == []


@pytest.mark.parametrize("package", ["plane", "l4", "http"])
def test_what_a_package_shares_is_declared_where_it_is_defined(package: str, objects: dict[str, Symbols]) -> None:
    """internal.h says which file has a function: what stands below "/* conn.c */" is in conn.c."""
    text = (FASTPATH / package / "internal.h").read_text()
    _, *sections = re.split(r"^/\* (\w+)\.c(?:, (\w+)\.c)?(?=[ :*])", text, flags=re.MULTILINE)
    assert len(sections) > 9
    for first, second, section in zip(sections[::3], sections[1::3], sections[2::3], strict=True):
        code = re.sub(r"/\*.*?\*/|static inline.*?^}", "", section, flags=re.DOTALL | re.MULTILINE)
        declared = set(re.findall(r"\b(kb_\w+)\(", code))
        defined = set().union(*(objects[f"{package}/{name}"].defined for name in (first, second) if name))
        assert declared and declared <= defined, f"{package}/internal.h, {first}.c: {sorted(declared - defined)}"


def test_one_file_knows_the_format_of_frames() -> None:
    knows = re.compile(r"\bKB_(TENANT_PACKET|TENANT_SEGMENT|HEADER)\b")
    assert {path.name for path in files() if knows.search(path.read_text())} == {"frame.h", "frame.c"}


def test_the_plane_does_not_know_who_lives_in_it() -> None:
    for path in files():
        if path.parent.name in ("packet", "link", "plane"):
            code = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
            assert not (found := UPPER_WORDS.search(code)), f"{path.name}: {found[0]}"


@pytest.mark.parametrize("name", ["plane", "checksum", "dns"])
def test_every_external_symbol_has_the_prefix(name: str) -> None:
    (module,) = FASTPATH.glob(f"{name}.*.so")
    listed = subprocess.run(
        ["nm", "--defined-only", "--extern-only", str(module)], check=True, capture_output=True, text=True
    ).stdout
    symbols = [line.split()[2] for line in listed.splitlines()]
    assert len(symbols) > (150 if name == "plane" else 1), "it was stripped"
    ours = [s for s in symbols if not s.startswith(("PyInit_", "__pyx_", "_"))]
    assert [s for s in ours if not s.startswith("kb_")] == []


@pytest.mark.parametrize("name", ["plane", "checksum", "libc", "aead", "zstd", "dns", "mqtt"])
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
            assert {n for n in members if not n.startswith("__")} == has, class_name
