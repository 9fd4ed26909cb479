"""One name stands for one class: who reads `Leases` in a traceback, or looks for it, finds one thing."""

from __future__ import annotations

import ast
from collections import defaultdict

from tests.unit.test_contracts import modules

#: names that several public classes may have, and why; take one out when it is gone
ALLOWED = {
    "ClusterNodes": "the scheduler's view of nodes; nodes of a user's own cluster",
    "Connection": "of an HTTP client; the protocol below a stream of exec",
    "Endpoint": "of L4; of a Service",
    "Leases": "of a store's keys; Lease objects of nodes",
    "Plan": "what each controller of workloads decides to do",
    "Resources": "of a container; the resources that an API serves",
    "Usage": "of a container; of what a node reports",
    "Volume": "as a Pod names it; as the engine mounts it",
    "WebSocket": "what carries a channel; that of exec and its kin",
}


def shared_names() -> dict[str, list[str]]:
    """Public classes at the top of a module whose name another one has, with their modules."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for module, path in sorted(modules().items()):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(module)
    return {name: where for name, where in found.items() if len(where) > 1}


def test_no_two_public_classes_have_one_name() -> None:
    assert {name: where for name, where in shared_names().items() if name not in ALLOWED} == {}


def test_what_is_allowed_is_there_still() -> None:
    assert sorted(ALLOWED.keys() - shared_names().keys()) == []
