"""Tables (meta.k8s.io Table): the columns of `kubectl get`, made on the server as kubectl expects. Pure.

Lives elsewhere: the columns and cells of the built-in resources (printers.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kubeedge.api import meta
from kubeedge.api.names import Object
from kubeedge.api.resources import Column, Printer, Row
from kubeedge.apiserver import versions


def _generic(obj: Object, now: float) -> Sequence[Any]:
    # metav1's default table shows the time itself, not the age
    return (meta.name_of(obj), meta.metadata(obj).get("creationTimestamp", ""))


_GENERIC = Printer([Column("Name"), Column("Created At", "date")], _generic)


def table(
    row: Row,
    items: Sequence[Object],
    *,
    version: str,
    include: str,
    now: float,
    list_metadata: Mapping[str, Any],
    headers: bool = True,
) -> Object:
    """Of stored objects. `version` is v1 or v1beta1 of meta.k8s.io; `include` is Metadata, Object or None."""
    printer = row.printer or _GENERIC
    found: Object = {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": dict(list_metadata),
        "columnDefinitions": [_definition(column) for column in printer.columns] if headers else [],
        "rows": [_row(row, printer, item, version, include, now) for item in items],
    }
    return found


def _definition(column: Column) -> Object:
    return {
        "name": column.name,
        "type": column.type,
        "format": "name" if column.name == "Name" and not column.wide else "",
        "description": "",
        "priority": 1 if column.wide else 0,
    }


def _row(resource: Row, printer: Printer, item: Object, version: str, include: str, now: float) -> Object:
    try:
        cells = list(printer.cells(item, now))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        # A status of a strange shape, from a node perhaps, costs its own row and not the whole list.
        name = meta.name_of(item)
        cells = [name if column.name == "Name" else "<invalid>" for column in printer.columns]
    row: Object = {"cells": cells}
    if include == "Object":
        row["object"] = versions.shown(resource, item)
    elif include != "None":
        row["object"] = partial(versions.shown(resource, item), version)
    return row


def partial(item: Object, version: str) -> Object:
    """PartialObjectMetadata: an object's metadata alone."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": meta.metadata(item),
    }
