"""The checker of docstrings counts what other packages can call, and nothing that is documented elsewhere."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.kit.docstrings import undocumented
from tests.unit.test_contracts import modules

TEXT = '''
"""A module."""
from typing import Protocol, overload

class Store(Protocol):
    """A contract."""
    def get(self) -> int:
        """The value."""
    def put(self) -> None: ...

class Memory:
    """Has all that the protocol asks for."""
    def get(self) -> int: return 1
    def put(self) -> None: ...

class Other:
    """Has a method of the same name, and is no store."""
    def get(self) -> int: return 1

class Base:
    def run(self) -> None:
        """Runs."""

class Derived(Base):
    """Inherits."""
    def run(self) -> None: ...
    def _own(self) -> None: ...
    @property
    def size(self) -> int:
        """Bytes."""
    @size.setter
    def size(self, value: int) -> None: ...

class _Private:
    def method(self) -> None: ...

@overload
def call(x: int) -> int: ...
def call(x: int) -> int:
    """Calls."""
    def inner() -> None: ...
    return x

async def silent() -> None: ...
'''


def test_public_names_without_a_docstring(tmp_path: Path) -> None:
    module, empty, bare = tmp_path / "module.py", tmp_path / "__init__.py", tmp_path / "bare.py"
    module.write_text(TEXT)
    empty.write_text("")
    bare.write_text("X = 1\n")
    found = [(name.file.name, name.name) for name in undocumented([module, empty, bare])]
    assert found == [
        ("module.py", "Store.put"),
        ("module.py", "Memory.put"),
        ("module.py", "Other.get"),
        ("module.py", "Base"),
        ("module.py", "silent"),
        ("bare.py", "module"),
    ]


def public(node: ast.Module | ast.ClassDef, name: str) -> Iterator[tuple[str, str]]:
    """(dotted name, docstring) of the public classes, functions and methods that have one."""
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            if text := ast.get_docstring(child):
                yield f"{name}.{child.name}", text
            if isinstance(child, ast.ClassDef):
                yield from public(child, f"{name}.{child.name}")


def test_a_docstring_says_more_than_the_name() -> None:
    """Three words are a heading: not what comes back, in which unit, nor what is raised."""
    found = [
        f"{name}: {text}"
        for module, path in sorted(modules().items())
        for name, text in public(ast.parse(path.read_text()), module)
        if len(text.split()) <= 3
    ]
    assert found == []
