"""One name stands for one class or type alias: who reads `Leases` in a traceback, or looks for it, finds one thing."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from tests.unit.test_contracts import modules

#: names that may mean two things, and why
SHARED: dict[str, str] = {}


def types(tree: ast.Module) -> Iterator[str]:
    """Public classes, type aliases and new types at the top of a module. A type variable is the business of its file."""
    for node in tree.body:
        name = ""
        if isinstance(node, ast.ClassDef):
            name = node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id if ast.unparse(node.annotation).endswith("TypeAlias") else ""
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and _is_type(node.value):
            found = node.targets[0].id
            name = found if found[0].isupper() and not found.isupper() else ""
        if name and not name.startswith("_"):
            yield name


def _is_type(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return ast.unparse(value.func).endswith("NewType")
    return isinstance(value, ast.Subscript | ast.BinOp)


def shared_names() -> dict[str, list[str]]:
    """Names of types that more than one module gives, with their modules."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for module, path in sorted(modules().items()):
        for name in types(ast.parse(path.read_text())):
            found[name].append(module)
    return {name: where for name, where in found.items() if len(where) > 1}


def test_no_two_public_types_have_one_name() -> None:
    found = shared_names()
    assert {name: where for name, where in found.items() if name not in SHARED} == {}
    assert [name for name in SHARED if name not in found] == [], "no exception is needed any more"


def test_what_it_sees() -> None:
    source = """
class Lease: ...
class _Own: ...
Key: TypeAlias = tuple[str, str]
Rows = Sequence[Lease]
Number = NewType("Number", int)
Item = TypeVar("Item")
_Count = Callable[[int], None]
LIMITS = ALL | MORE
total = first | second
"""
    assert list(types(ast.parse(source))) == ["Lease", "Key", "Rows", "Number"]
