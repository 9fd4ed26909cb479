"""One name stands for one class: who reads `Leases` in a traceback, or looks for it, finds one thing."""

from __future__ import annotations

import ast
from collections import defaultdict

from tests.unit.test_contracts import modules


def shared_names() -> dict[str, list[str]]:
    """Public classes at the top of a module whose name another one has, with their modules."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for module, path in sorted(modules().items()):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(module)
    return {name: where for name, where in found.items() if len(where) > 1}


def test_no_two_public_classes_have_one_name() -> None:
    assert shared_names() == {}
