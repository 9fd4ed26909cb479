"""Objects of a version that is served and not stored, on their way in and out. Pure.

Lives elsewhere: what a version is (kubeedge.api.conversions).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubeedge.api import meta, schema
from kubeedge.api.names import Object
from kubeedge.api.resources import Row
from kubeedge.apiserver import core
from kubeedge.apiserver.core import WriteOptions


def shown(row: Row, obj: Object) -> Object:
    """A stored object in the version of that row. Clients of the stored version may write what the other one alone can say: what is not of its types
    there does not count, or one object would break lists for all clients."""
    if row.conversion is None:
        return obj
    found = row.conversion.from_stored(obj)
    annotations = meta.metadata(obj).get("annotations") or {}
    if row.conversion.annotation not in annotations or not schema.check(row.strategy.schema, found)[0]:
        return found
    rest = {key: value for key, value in annotations.items() if key != row.conversion.annotation}
    return row.conversion.from_stored({**obj, "metadata": {**meta.metadata(obj), "annotations": rest}})


def stored(row: Row, obj: Object, options: WriteOptions) -> Object:
    """What a client has sent, checked as an object of its version, and as it is stored. Raises BadRequest, InvalidObject."""
    if row.conversion is None:
        return obj
    return row.conversion.to_stored(core.checked(row, obj, options))


def change(row: Row, change_: Callable[[Object], Any], options: WriteOptions) -> Callable[[Object], Any]:
    """The same change, of the stored object."""
    if row.conversion is None:
        return change_
    return lambda old: stored(row, change_(shown(row, old)), options)
