"""Server-side apply: who has set which fields of an object, and what an applied configuration makes of it. Pure.

The rules are those of Kubernetes (reference/using-api/server-side-apply):

* A manager that applies owns exactly the fields of its configuration from then on. A field that it owned and no longer names is removed,
  unless another manager owns it, too.
* A field of another manager that the configuration would change is a conflict; with `force` the owner changes.
* Any other write takes over the fields that it changes.

Fields of an object that was never applied have no owners: most objects are written by controllers alone, and do not pay for this. With
the first apply what is there belongs to "before-first-apply", as in Kubernetes; what `kubectl apply` has set without --server-side, and says so in
its annotation, belongs to "kubectl-client-side-apply". kubectl takes that over, and removes of it what it does not name any more: so
there must be nothing of others in it, as the node of a pod. Status has no owners here.

Lives elsewhere: what a field is (field_sets.py), reading and writing of objects (kubeedge.apiserver).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from kubeedge.api import field_sets, meta, strict_json
from kubeedge.api.edge_writes import LAST_APPLIED
from kubeedge.api.field_sets import ElementPath, ElementPaths
from kubeedge.api.names import Object
from kubeedge.api.status import MAX_CAUSES, BadRequest, StatusError
from kubeedge.errors import Conflict, Invalid
from kubeedge.kit.dataclasses import dataclass, replace

BEFORE = "before-first-apply"
CLIENT_SIDE, SERVER_SIDE = "kubectl-client-side-apply", "kubectl"  # how kubectl calls itself
ANCIENT = "ancient-changes"
MAX_MANAGER = 128  # characters of a name
_MAX_UPDATERS = 10  # managers that wrote without applying; the oldest become one, as in Kubernetes
_MAX_ENTRIES = 100
#: fields of metadata that have no owner: the server sets them
_OURS = frozenset(
    (
        *("name", "namespace", "generateName", "uid", "resourceVersion", "generation", "selfLink", "managedFields"),
        *("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"),
    )
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of metadata.managedFields (ManagedFieldsEntry v1), its fieldsV1 as a set of paths."""

    manager: str
    operation: Literal["Apply", "Update"]
    api_version: str
    time: str  # RFC 3339
    fields: ElementPaths


class ApplyConflict(StatusError, Conflict):
    """Other managers own fields that this configuration would change."""

    code = 409
    reason = "Conflict"

    @classmethod
    def of(cls, found: Sequence[tuple[Entry, ElementPaths]]) -> ApplyConflict:
        """The 409 for fields that other managers own: a cause "FieldManagerConflict" for each path, the message with at most 32."""
        causes = [
            {
                "reason": "FieldManagerConflict",
                "message": f'conflict with "{entry.manager}" using {entry.api_version}',
                "field": field_sets.text_of(path),
            }
            for entry, paths in found
            for path in sorted(paths)
        ]
        shown = "\n".join(f"- {cause['message']}: {cause['field']}" for cause in causes[:MAX_CAUSES])
        count = f"{len(causes)} conflict{'s' if len(causes) > 1 else ''}"
        if len(causes) == 1:
            shown = shown.removeprefix("- ")
        separator = ": " if len(causes) == 1 else ":\n"
        return cls(f"Apply failed with {count}{separator}{shown}", {"causes": causes[:MAX_CAUSES]})


def applied(kind: str, live: Object | None, config: Object, manager: str, *, force: bool, now: float) -> Object:
    """The object after `manager` applied `config`. Raises ApplyConflict, BadRequest."""
    if meta.metadata(config).get("managedFields"):
        raise BadRequest("metadata.managedFields must be nil")
    wanted = _owned(meta.without_nulls(config))
    root = field_sets.root(kind)
    fields = frozenset(field_sets.leaves(wanted, root))
    before = _owned(live) if live is not None else {}
    entries = _entries(kind, live) if live is not None else []
    mine = next((e for e in entries if (e.manager, e.operation) == (manager, "Apply")), None)
    others = [e for e in entries if e is not mine]
    result = field_sets.merged(before, wanted, root)
    changed = {path for there, path in field_sets.differences(before, result, root) if there} & fields
    own = _client_side(kind, live) if manager == SERVER_SIDE and changed else frozenset()
    taken = changed if force else changed & own  # kubectl is in no conflict with itself
    conflicts = [(e, both) for e in others if (both := e.fields & (changed - taken))]
    if conflicts:
        raise ApplyConflict.of(conflicts)
    others = [replace(e, fields=e.fields - taken) for e in others]
    if mine is not None:
        had_by_all = fields.union(*(e.fields for e in others))
        on_the_way = {path[:n] for path in had_by_all for n in range(1, len(path) + 1)}
        result = field_sets.without(result, mine.fields - on_the_way, had_by_all, root)
    whole = _joined(live or {}, config, result)
    same = mine is not None and mine.fields == fields and result == before
    stamp = mine.time if same and mine is not None else meta.timestamp(now)
    entry = Entry(manager, "Apply", str(config.get("apiVersion", "")), stamp, fields)
    return _with_entries(whole, [*others, entry])


def updated(kind: str, old: Object, new: Object, manager: str, *, now: float) -> Object:
    """`new` with the owners of its fields, after `manager` wrote it over `old` without applying."""
    asked = meta.metadata(new).get("managedFields")
    had = meta.metadata(old).get("managedFields")
    if not had and not asked:
        return new
    if asked in ([], [{}]):  # how a client takes all owners away
        return _with_entries(new, [])
    entries = _decoded(asked if asked else had)
    root = field_sets.root(kind)
    changed: set[field_sets.ElementPath] = set()
    removed: set[field_sets.ElementPath] = set()
    for there, path in field_sets.differences(_owned(old), _owned(new), root):
        (changed if there else removed).add(path)
    if changed or removed:
        mine = next((e for e in entries if (e.manager, e.operation) == (manager, "Update")), None)
        others = [replace(e, fields=e.fields - changed - removed) for e in entries if e is not mine]
        kept = (mine.fields - removed if mine is not None else frozenset()) | changed
        entry = Entry(manager, "Update", str(new.get("apiVersion", "")), meta.timestamp(now), kept)
        entries = [*others, entry]
    return _with_entries(new, entries)


def _owned(obj: Object) -> Object:
    """The part of an object whose fields have owners."""
    inner = {key: value for key, value in meta.metadata(obj).items() if key not in _OURS}
    rest = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata", "status")}
    return {"metadata": inner, **rest} if inner else rest


def _joined(live: Object, config: Object, owned: Object) -> Object:
    """`owned` in place of what the object had of it. A uid or resourceVersion of the configuration is a precondition, as in any update."""
    ours = {key: value for source in (live, config) for key, value in meta.metadata(source).items() if key in _OURS}
    kept = {key: config.get(key, live.get(key)) for key in ("apiVersion", "kind")}
    status = {"status": live["status"]} if "status" in live else {}
    return {**kept, **owned, **status, "metadata": {**ours, **meta.metadata(owned)}}


def _entries(kind: str, live: Object) -> list[Entry]:
    if listed := meta.metadata(live).get("managedFields"):
        return _decoded(listed)
    fields = frozenset(field_sets.leaves(_owned(live), field_sets.root(kind)))
    applied_before = _client_side(kind, live)
    since = str(meta.metadata(live).get("creationTimestamp", ""))
    each = ((BEFORE, fields - applied_before), (CLIENT_SIDE, applied_before))
    return [Entry(name, "Update", str(live.get("apiVersion", "")), since, owned) for name, owned in each if owned]


def _client_side(kind: str, live: Object | None) -> ElementPaths:
    """What `kubectl apply` has set by its annotation, and is as it was, with the annotation; and what the server has filled into the items of
    lists that are from there, which could not be removed otherwise."""
    text = (meta.metadata(live or {}).get("annotations") or {}).get(LAST_APPLIED)
    if live is None or not isinstance(text, str):
        return frozenset()
    try:
        config = strict_json.loads(text.encode(errors="replace"))
    except Invalid:
        return frozenset()
    if not isinstance(config, dict):
        return frozenset()
    before, now, root = _owned(meta.without_nulls(config)), _owned(live), field_sets.root(kind)
    changed = {path for _, path in field_sets.differences(before, now, root)}
    named, there = frozenset(field_sets.leaves(before, root)), frozenset(field_sets.leaves(now, root))
    same = (named & there) - changed
    filled = {path for path in there - named if _item_of(path) in same}
    return same | filled | {("f:metadata", "f:annotations", f"f:{LAST_APPLIED}")}


def _item_of(path: ElementPath) -> ElementPath:
    """The innermost item of a list on the way to a field, or that field itself; () for none."""
    return path[: max((n for n, element in enumerate(path, 1) if element[0] == "k"), default=0)]


def _decoded(listed: Any) -> list[Entry]:
    """Raises BadRequest, or Invalid when the fields are not fields."""
    if not isinstance(listed, list) or len(listed) > _MAX_ENTRIES or not all(isinstance(e, dict) for e in listed):
        raise BadRequest(f"metadata.managedFields is not a list of up to {_MAX_ENTRIES} entries")
    return [
        Entry(
            str(e.get("manager", ""))[:MAX_MANAGER],
            "Apply" if e.get("operation") == "Apply" else "Update",
            str(e.get("apiVersion", ""))[:MAX_MANAGER],
            str(e.get("time", ""))[:64],
            field_sets.decode(e.get("fieldsV1", {})),
        )
        for e in listed
        if not e.get("subresource")  # of a status, which has no owners here
    ]


def _with_entries(obj: Object, entries: Iterable[Entry]) -> Object:
    inner = {key: value for key, value in meta.metadata(obj).items() if key != "managedFields"}
    if listed := [_encoded(e) for e in _few(e for e in entries if e.fields)]:
        inner["managedFields"] = listed
    return {**obj, "metadata": inner}


def _few(entries: Iterable[Entry]) -> list[Entry]:
    found = sorted(entries, key=lambda e: (e.operation == "Update", e.time, e.manager))
    updaters = [e for e in found if e.operation == "Update"]
    if len(updaters) <= _MAX_UPDATERS:
        return found
    old = updaters[: len(updaters) - _MAX_UPDATERS + 1]
    joined = replace(old[-1], manager=ANCIENT, fields=frozenset().union(*(e.fields for e in old)))
    return [*(e for e in found if e.operation == "Apply"), joined, *updaters[len(old) :]]


def _encoded(entry: Entry) -> Object:
    return {
        "manager": entry.manager,
        "operation": entry.operation,
        "apiVersion": entry.api_version,
        "time": entry.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": field_sets.encode(entry.fields),
    }
