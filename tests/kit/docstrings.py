"""Which public names have no docstring: their number may fall and never rise (`make lint`).

    python -m tests.kit.docstrings                           compare the number with that of undocumented.txt
    python -m tests.kit.docstrings --lower                   write today's number there, when it is smaller
    python -m tests.kit.docstrings --list src/kubeedge/kit   the names below a path

A public name is a module, and a class, function or method without a leading underscore in its own name or in those around it. What a
base class or a Protocol documents, an implementation need not repeat.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).parents[2]
TREES = ("src/kubeedge", "cloud/kubeedge_cloud")
LIMIT = Path(__file__).with_name("undocumented.txt")

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Public:
    """A public name, and where it is."""

    file: Path
    line: int
    name: str
    documented: bool


@dataclass(frozen=True, slots=True)
class _Contract:
    """A class whose docstrings hold for its implementations."""

    name: str
    is_protocol: bool
    methods: frozenset[str]
    documented: frozenset[str]

    def explains(self, method: str, cls: ast.ClassDef) -> bool:
        """Whether `method` of `cls` is one that this class documents: by inheritance, or since `cls` has what the protocol asks for."""
        if method not in self.documented:
            return False
        return self.name in _bases(cls) or (self.is_protocol and self.methods <= _methods(cls).keys())


def undocumented(files: Sequence[Path]) -> list[Public]:
    """The public names in `files` that have no docstring, neither their own nor one of what they implement."""
    trees = {file: ast.parse(file.read_text()) for file in files}
    contracts = [_contract(c) for tree in trees.values() for c in ast.walk(tree) if isinstance(c, ast.ClassDef)]
    return [name for file, tree in trees.items() for name in _names(file, tree, contracts) if not name.documented]


def _names(file: Path, tree: ast.Module, contracts: Sequence[_Contract]) -> Iterator[Public]:
    if tree.body:  # an empty __init__.py has nothing to say
        yield Public(file, 1, "module", ast.get_docstring(tree) is not None)
    yield from _within(file, tree, "", contracts)


def _within(
    file: Path, scope: ast.Module | ast.ClassDef, prefix: str, contracts: Sequence[_Contract]
) -> Iterator[Public]:
    for node in scope.body:
        if not isinstance(node, ast.ClassDef | _Function) or node.name.startswith("_") or _repeats(node):
            continue
        documented = ast.get_docstring(node) is not None
        if isinstance(scope, ast.ClassDef) and not documented:
            documented = any(contract.explains(node.name, scope) for contract in contracts)
        yield Public(file, node.lineno, prefix + node.name, documented)
        if isinstance(node, ast.ClassDef):
            yield from _within(file, node, f"{prefix}{node.name}.", contracts)


def _repeats(node: ast.ClassDef | _Function) -> bool:
    """An overload, or the setter of a property: another definition of the same name has the docstring."""
    return any(ast.unparse(d).rpartition(".")[2] in ("overload", "setter", "deleter") for d in node.decorator_list)


def _contract(cls: ast.ClassDef) -> _Contract:
    methods = _methods(cls)
    documented = frozenset(name for name, node in methods.items() if ast.get_docstring(node) is not None)
    return _Contract(cls.name, "Protocol" in _bases(cls), frozenset(methods), documented)


def _methods(cls: ast.ClassDef) -> dict[str, _Function]:
    return {node.name: node for node in cls.body if isinstance(node, _Function) and not _repeats(node)}


def _bases(cls: ast.ClassDef) -> set[str]:
    """The last part of the name of each: `Protocol` of `typing.Protocol[T]`."""
    return {ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in cls.bases}


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def _show(missing: Sequence[Public], path: Path) -> None:
    for name in missing:
        if name.file.is_relative_to(path.resolve()):
            print(f"{name.file.relative_to(ROOT)}:{name.line}: {name.name}")


def _compare(missing: int, *, lower: bool) -> int:
    allowed = int(LIMIT.read_text())
    print(f"{missing} public names have no docstring; at most {allowed} may have none")
    if missing > allowed:
        print("document what you add; `python -m tests.kit.docstrings --list PATH` shows the names without a docstring")
    elif lower:
        LIMIT.write_text(f"{missing}\n")
    return int(missing > allowed)


def main(arguments: Sequence[str]) -> int:
    """The exit status: 1 when there are more than undocumented.txt allows."""
    parser = argparse.ArgumentParser(prog="python -m tests.kit.docstrings", description=__doc__.splitlines()[0])
    parser.add_argument("--list", type=Path, metavar="PATH", help="show the names below it")
    parser.add_argument(
        "--lower", action="store_true", help="write today's number to undocumented.txt, if it is smaller"
    )
    options = parser.parse_args(arguments)
    missing = undocumented([file for tree in TREES for file in _files(ROOT / tree)])
    if options.list:
        _show(missing, options.list)
        return 0
    return _compare(len(missing), lower=options.lower)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
