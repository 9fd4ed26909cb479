"""A file that says that it is pure is held to it: it stands in the import contract, where lint-imports checks what it imports."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = {"kubeedge": ROOT / "src", "kubeedge_cloud": ROOT / "cloud"}
#: packages in which every file is looked at
LOOKED_AT = (
    "kubeedge.api",
    "kubeedge.apiserver",
    "kubeedge.metaserver",
    "kubeedge.kit.reflector",
    "kubeedge_cloud.controllers",
    "kubeedge_cloud.edgecontroller",
)
_SAYS_SO = re.compile(r"(?:^|\s)Pure[.;:]")


def contract() -> list[str]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    found: list[str] = next(c["source_modules"] for c in contracts if c["name"].startswith("Cores are pure"))
    return found


def covers(pattern: str, module: str) -> bool:
    """`**` is any number of packages; a package stands for everything in it."""
    text = re.escape(pattern).replace(r"\.\*\*\.", r"\.(?:[\w.]+\.)?")
    return re.fullmatch(rf"{text}(?:\..*)?", module) is not None


def test_who_says_so_is_checked() -> None:
    patterns, missing, said = contract(), [], 0
    for package in LOOKED_AT:
        folder = SOURCES[package.partition(".")[0]].joinpath(*package.split("."))
        for path in sorted(folder.rglob("*.py")):
            document = ast.get_docstring(ast.parse(path.read_text())) or ""
            if not _SAYS_SO.search(document):
                continue
            said += 1
            module = ".".join(path.relative_to(SOURCES[package.partition(".")[0]]).with_suffix("").parts)
            if not any(covers(pattern, module) for pattern in patterns):
                missing.append(module)
    assert not missing and said > 15
