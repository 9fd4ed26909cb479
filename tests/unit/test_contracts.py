"""The import contracts of pyproject.toml hold for every file that says so, not only for those that somebody remembered to list."""

from __future__ import annotations

import ast
import fnmatch
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PURE = re.compile(r"\bPure\b|\bas a pure\b|\ba pure function\b|\bstill pure\b")


def modules() -> dict[str, Path]:
    """Every Python module of the product by its dotted name."""
    found = {}
    for root in (ROOT / "src", ROOT / "cloud"):
        for path in root.glob("kubeedge*/**/*.py"):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def contract(name: str) -> list[str]:
    """The source modules of the contract whose name begins so."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (patterns,) = [c["source_modules"] for c in contracts if c["name"].startswith(name)]
    assert isinstance(patterns, list)
    return patterns


def covered(module: str, patterns: list[str]) -> bool:
    """By a pattern itself, or by a package that one names."""
    parts = module.split(".")
    names = [".".join(parts[: n + 1]) for n in range(len(parts))]
    return any(fnmatch.fnmatchcase(name, p.replace(".**.", ".*.")) for p in patterns for name in names) or any(
        ".**." in p and fnmatch.fnmatchcase(name, p.replace(".**.", ".")) for p in patterns for name in names
    )


def test_every_file_that_says_it_is_pure_is_in_the_contract() -> None:
    patterns = contract("Cores are pure")
    missing = []
    for name, path in sorted(modules().items()):
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        if PURE.search(text) and not covered(name, patterns):
            missing.append(name)
    assert missing == []


def test_every_file_that_the_contract_names_is_there() -> None:
    names = modules()
    assert [p for p in contract("Cores are pure") if "*" not in p and p not in names] == []


def test_a_module_of_a_package_is_covered_by_its_pattern_and_others_are_not() -> None:
    patterns = ["kubeedge.**.core", "kubeedge.wire_format"]
    assert covered("kubeedge.sync.core", patterns) and covered("kubeedge.kubebus.l4.core", patterns)
    assert covered("kubeedge.wire_format.frame", patterns) and covered("kubeedge.wire_format", patterns)
    assert not covered("kubeedge.sync.driver", patterns) and not covered("kubeedge.wired", patterns)


def test_pure_files_touch_no_file_and_read_no_clock() -> None:
    """What an import does not show: `open`, methods of Path, and the clock of datetime."""
    methods = {"read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "unlink", "iterdir", "glob", "rglob"}
    methods |= {"is_file", "is_dir", "readlink", "now", "utcnow", "today"}
    patterns, found = contract("Cores are pure"), []
    for name, path in sorted(modules().items()):
        if not covered(name, patterns):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Attribute) and called.attr in methods:
                found.append(f"{name}:{called.lineno} .{called.attr}()")
            if isinstance(called, ast.Name) and called.id in ("open", "print", "input"):
                found.append(f"{name}:{called.lineno} {called.id}()")
    assert found == []


def test_a_logger_has_the_name_of_its_package() -> None:
    """One scheme on both sides, so that a filter finds all of a component: "kubeedge.", the package, and what is below it."""
    wrong = []
    for name, path in sorted(modules().items()):
        package = name.split(".")[1] if name.count(".") > 1 else ""
        if package == "kit":  # its parts work for other packages
            continue
        for said in re.findall(r"getLogger\(([^)]+)\)", path.read_text()):
            logger = said[1:-1].replace(".edgehub", ".hub")  # the module's name; the package serves CloudHub too
            if package and not f"{logger}.".startswith(f"kubeedge.{package}."):
                wrong.append(f"{name}: {said}")
    assert wrong == []
