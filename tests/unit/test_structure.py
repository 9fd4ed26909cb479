"""The structure that docs/ARCHITECTURE.md states: modules in module.py, files of one noun, layers that no late import goes round."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_contracts import ROOT, modules

LINES = 400  # of a file; more than that is more than one noun
#: longer files, and why they are one noun all the same
LONG = {
    "kubeedge.api.proto_table": "generated from Kubernetes' protobuf files",
    "kubeedge.api.schema_table": "the table of all fields that validation knows",
    "kubeedge.appengine.runtime.cri.table": "generated from api.proto",
}
#: what the edge's distribution may name of the cloud's, and where: the seam of the command line
SEAM = {("kubeedge.cli.cloud_side", "kubeedge_cloud.commands")}
_BY_NAME = {"import_module", "find_spec", "__import__", "defer"}
#: loads what was given to its `defer`, where the name is seen
_DEFERRED = "kubeedge.kit.deferred"


def layers(root: str) -> list[set[str]]:
    """The packages of each layer, the highest first."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (found,) = [c["layers"] for c in contracts if c["type"] == "layers" and c["containers"] == [root]]
    return [{name.strip("() ") for name in line.replace(":", "|").split("|")} for line in found]


def constants(tree: ast.Module) -> dict[str, str]:
    """Strings that a module gives names to at its top, f-strings of such names included."""
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            if (text := spelled(node.value, found)) is not None:
                found[node.targets[0].id] = text
    return found


def spelled(node: ast.expr, names: dict[str, str]) -> str | None:
    """The text of an expression, as far as it stands in the file: an f-string up to its first unknown part."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.JoinedStr):
        text = ""
        for part in node.values:
            piece = spelled(part.value if isinstance(part, ast.FormattedValue) else part, names)
            if piece is None:
                break
            text += piece
        return text
    return None


def loaded_by_name(tree: ast.Module) -> Iterator[str]:
    """Modules that are imported, found or run by a string: importlib, `python -m` and helper processes."""
    names = constants(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if name in _BY_NAME and node.args:
                text = spelled(node.args[0], names)
                yield text.rstrip(".") if text else f"? {ast.unparse(node)}"
            elements: list[ast.expr] = node.args
        elif isinstance(node, ast.List | ast.Tuple):
            elements = node.elts
        else:
            continue
        for before, after in zip(elements, elements[1:], strict=False):
            if isinstance(before, ast.Constant) and before.value == "-m" and (text := spelled(after, names)):
                yield text


def imported(tree: ast.Module) -> Iterator[str]:
    """Modules that are imported, wherever in the file: in functions and under TYPE_CHECKING, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
    yield from loaded_by_name(tree)


def upward(module: str, target: str, order: dict[str, list[set[str]]]) -> bool:
    """The import goes up, sideways, or from the edge to the cloud."""
    (root, *own), (other, *its) = module.split("."), target.split(".")
    if other not in order or not its or not own:
        return False
    if root != other:
        return root == "kubeedge" and (module, target) not in SEAM
    if own[0] == its[0]:
        return False
    place = {name: n for n, layer in enumerate(order[root]) for name in layer}
    if own[0] not in place or its[0] not in place:
        return own[0] != "__main__" and its[0] != "__version__"
    return place[own[0]] >= place[its[0]]


def test_no_import_goes_up_a_layer_late_or_by_name() -> None:
    order = {root: layers(root) for root in ("kubeedge", "kubeedge_cloud")}
    found = []
    for name, path in sorted(modules().items()):
        tree = ast.parse(path.read_text())
        found += [f"{name} -> {target}" for target in set(imported(tree)) if upward(name, target, order)]
        if name != _DEFERRED:
            found += [f"{name} loads {target}" for target in loaded_by_name(tree) if target.startswith("?")]
    assert found == []


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("def late():\n    from kubeedge.edgecore import main", "kubeedge.edgecore"),
        ("import importlib\nimportlib.import_module('kubeedge.cli.run')", "kubeedge.cli.run"),
        ("NAME = 'kubeedge.cli'\nimport_module(f'{NAME}.{x}')", "kubeedge.cli"),
        ("run([sys.executable, '-m', 'kubeedge_cloud.cloudcore'])", "kubeedge_cloud.cloudcore"),
        ("if TYPE_CHECKING:\n    from kubeedge_cloud import cloudcore", "kubeedge_cloud.cloudcore"),
    ],
)
def test_what_it_sees(source: str, target: str) -> None:
    order = {root: layers(root) for root in ("kubeedge", "kubeedge_cloud")}
    assert target in set(imported(ast.parse(source))) and upward("kubeedge.store.core", target, order)


def test_no_files_import_each_other_in_a_circle() -> None:
    """Imports for types alone count, too: who reads one of the files has to read them all."""
    files = modules()
    graph = {
        name: {t for t in imported(ast.parse(path.read_text())) if t in files and not f"{name}.".startswith(f"{t}.")}
        for name, path in files.items()
    }
    while ends := {name for name, targets in graph.items() if not targets & graph.keys()}:
        graph = {name: targets for name, targets in graph.items() if name not in ends}
    assert sorted(graph) == [], "these, or what they import, are in a circle"


def test_the_compiled_package_is_below_all_but_the_errors() -> None:
    """What its sources include counts, too. Stubs alone may name types of their callers."""
    assert layers("kubeedge")[-2:] == [{"_fastpath"}, {"errors", "faults"}]
    sources = [
        path for end in ("pyx", "pxi", "pxd", "py") for path in sorted((ROOT / "src/_fastpath").rglob(f"*.{end}"))
    ]
    found = [f"{s.name}: {line}" for s in sources for line in s.read_text().splitlines() if _FROM_PYTHON.match(line)]
    assert len(sources) > 8 and found == []


_FROM_PYTHON = re.compile(r"\s*(from|import|cimport)\s+kubeedge\.(?!_fastpath\b|errors\b)")


def test_appengine_knows_its_runtime_by_the_interface_alone() -> None:
    """Names of CRI and OCI, and what both runtimes share: no file outside of them knows which one there is."""
    shared = {"base", "detail", "detail_files", "image_service", "mounts", "oci_spec", "usage"}
    found = []
    for name, path in sorted(modules().items()):
        if not name.startswith("kubeedge.appengine.") or re.match(r"kubeedge\.appengine\.(runtime|images)\b", name):
            continue
        for target in imported(ast.parse(path.read_text())):
            parts = target.split(".")
            if parts[:2] != ["kubeedge", "appengine"] or len(parts) < 4:
                continue
            if parts[2] == "images" or (parts[2] == "runtime" and parts[3] not in shared):
                found.append(f"{name} -> {target}")
    assert found == []


def test_a_module_of_a_process_is_in_a_module_py() -> None:
    """What a supervisor runs has a name and `run(ready)` (kubeedge.beehive.module)."""
    wrong, found = [], 0
    for name, path in sorted(modules().items()):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and _is_module(node):
                found += 1
                if name.rpartition(".")[2] != "module":
                    wrong.append(f"{name}.{node.name}")
    assert wrong == [] and found > 20


def _is_module(node: ast.ClassDef) -> bool:
    assigned = {ast.unparse(n.targets[0]) for n in node.body if isinstance(n, ast.Assign)}
    assigned |= {ast.unparse(n.target) for n in node.body if isinstance(n, ast.AnnAssign)}
    is_named = "name" in assigned
    runs = [n for n in node.body if isinstance(n, ast.AsyncFunctionDef) and n.name == "run"]
    return is_named and any([a.arg for a in run.args.args] == ["self", "ready"] for run in runs)


def test_a_directory_with_modules_is_a_package() -> None:
    """Without __init__.py it is imported from a checkout, and find_packages() leaves it out of the wheel."""
    directories = {path.parent for path in modules().values()}
    assert len(directories) > 60 and [str(d) for d in sorted(directories) if not (d / "__init__.py").is_file()] == []


def test_a_file_is_one_noun() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert {name: n for name, n in lengths.items() if n > LINES and name not in LONG} == {}
    compiled = [path for end in ("c", "h", "pyx", "pxi") for path in (ROOT / "src/_fastpath").rglob(f"*.{end}")]
    assert len(compiled) > 60 and [p.name for p in compiled if len(p.read_text().splitlines()) > LINES] == []
    assert [name for name in LONG if lengths.get(name, 0) <= LINES] == [], "no exception is needed any more"


def test_the_seam_to_the_cloud_is_what_the_command_line_expects() -> None:
    from kubeedge.cli.cloud_side import CloudSide, load
    from kubeedge_cloud import commands

    side: CloudSide = commands
    assert load() is side
    assert Path(commands.__file__ or "").name == "commands.py"
