"""What devices send as JSON or as text, and where a property's value is in it. Pure.

A visitor's `pointer` (RFC 6901) leads to the value: "/sensors/0/temperature"; without it the whole text is the value.
"""

from __future__ import annotations

import json
from typing import Any

from kubeedge.api import patch
from kubeedge.errors import Invalid
from kubeedge.mapper.values import MappedProperty, TypedValue


class NoSuchValue(Invalid):
    """It is no JSON, or has nothing where the pointer leads."""


class Document:
    """The body of an answer or a message, which may have the values of many properties; it is parsed once."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._json: Any = None
        self._is_parsed = False

    def value(self, prop: MappedProperty) -> TypedValue:
        """Raises Invalid, with the property's name, when the value has another type; NoSuchValue."""
        pointer = prop.visitor.get("pointer")
        if pointer is None:
            return typed(prop, self._body.decode("utf-8", "replace").strip())
        try:
            found = patch.value_at(self._document(), pointer)
        except Invalid as exc:
            raise NoSuchValue(str(prop.invalid(str(exc)))) from exc
        return typed(prop, found)

    def _document(self) -> Any:
        if not self._is_parsed:
            try:
                self._json = json.loads(self._body)
            except (ValueError, RecursionError) as exc:
                raise Invalid("it is no JSON") from exc
            self._is_parsed = True
        return self._json


def typed(prop: MappedProperty, value: Any) -> TypedValue:
    """A value of a JSON document, or a text, as the property's type has it: many devices send numbers as texts. Raises Invalid."""
    if prop.type in ("STRING", "STREAM"):
        return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    if isinstance(value, str):
        text = value.strip()
        return prop.typed(text.lower() if prop.type == "BOOLEAN" else text)
    if not isinstance(value, bool | int | float):
        raise prop.invalid(f"{str(value)[:40]!r} is no {prop.type}")
    prop.text(value)  # raises Invalid for another type
    return value
