"""The standard library's dataclasses, with methods that all classes share (kubeedge._fastpath.records) and that read a table of the class's fields.

What differs is the price: dataclasses.dataclass writes the source of six methods for each class and compiles it, which with hundreds of classes is 2 MB
and a third of the time that the agent takes to start (ADR 54). Of its options and markers there are those that are used here: no order, unsafe_hash,
weakref_slot, InitVar, KW_ONLY or __post_init__. A type checker sees the standard library's.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import _FIELD, MISSING, Field, asdict, field, fields, is_dataclass, replace  # type: ignore[attr-defined]
from typing import TYPE_CHECKING, Any

from kubeedge._fastpath import records

__all__ = ["MISSING", "Field", "asdict", "dataclass", "field", "fields", "is_dataclass", "replace"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls=None, /, *, frozen=False, slots=False, kw_only=False, eq=True, repr=True):
        """Adds fields and methods to a class; with slots, to a copy of it."""

        def wrap(cls):
            return _made(cls, frozen=frozen, slots=slots, kw_only=kw_only, eq=eq, repr=repr)

        return wrap if cls is None else wrap(cls)


class _Fields:
    """`__dataclass_fields__`, by which the standard library's functions know a dataclass: made when one of them asks."""

    def __get__(self, instance: object, owner: type) -> dict[str, Field[Any]]:
        table: records.Table = owner.__dataclass_table__  # type: ignore[attr-defined]
        if table.fields is None:
            table.fields = _standard(table, owner)
        return table.fields


class _Parameters:
    """`__dataclass_params__`, of which the standard library asks one thing when a class of its own extends ours."""

    def __init__(self, frozen: bool) -> None:
        self.frozen = frozen


_FIELDS, _FROZEN, _CHANGEABLE = _Fields(), _Parameters(True), _Parameters(False)


class _Reading:
    """The fields of a class while they are being read: those that it inherits, then its own."""

    def __init__(self, cls: type, kw_only: bool) -> None:
        of: records.Table | None = getattr(cls, "__dataclass_table__", None)
        self.names = [*of.names] if of else []
        self.positional, self.keywords = ([*of.positional], [*of.keywords]) if of else ([], [])
        self.compared, self.shown = ({*of.compared}, {*of.shown}) if of else (set(), set())
        self.defaults: dict[str, Any]
        self.factories: dict[str, Any]
        self.metadata: dict[str, Any]
        self.defaults, self.factories, self.metadata = (
            ({**(of.defaults or {})}, {**(of.factories or {})}, {**(of.metadata or {})}) if of else ({}, {}, {})
        )
        hints = cls.__dict__.get("__annotations__", {})
        self.own = [name for name, hint in hints.items() if not str(hint).startswith(("ClassVar", "typing.ClassVar"))]
        for name in self.own:
            if name not in self.names:
                self.names.append(name)
                (self.keywords if kw_only else self.positional).append(name)
            self._read(name, cls.__dict__.get(name, MISSING))

    def _read(self, name: str, given: Any) -> None:
        it: Field[Any] = given if isinstance(given, Field) else field(default=given)
        given_by: tuple[tuple[dict[str, Any], Any], ...] = (
            (self.defaults, it.default),
            (self.factories, it.default_factory),
            (self.metadata, it.metadata or MISSING),
        )
        for of, value in given_by:
            of.pop(name, None)
            if value is not MISSING:
                of[name] = value
        if type(it.default).__hash__ is None:
            raise ValueError(f"mutable default {type(it.default)} for field {name} is not allowed: use default_factory")
        for chosen, is_in in ((self.compared, it.compare), (self.shown, it.repr)):
            (chosen.add if is_in else chosen.discard)(name)

    def table(self) -> records.Table:
        """What the methods of the class read. Most of its tuples are one and the same."""
        names = tuple(self.names)

        def some(chosen: Collection[str]) -> tuple[str, ...]:
            return names if len(chosen) == len(names) else tuple(name for name in names if name in chosen)

        return records.Table(
            names,
            some(self.positional),
            some(self.keywords),
            some(self.compared),
            some(self.shown),
            self.defaults or None,
            self.factories or None,
            self.metadata or None,
        )


def _made(cls: type, *, frozen: bool, slots: bool, kw_only: bool, eq: bool, repr: bool) -> type:
    fields_of = _Reading(cls, kw_only)
    table = fields_of.table()
    added: dict[str, Any] = {
        "__dataclass_table__": table,
        "__dataclass_fields__": _FIELDS,
        "__dataclass_params__": _FROZEN if frozen else _CHANGEABLE,
        "__match_args__": table.positional,
        "__init__": records.initialise,
    }
    if repr:
        added["__repr__"] = records.shown
    if eq:
        added["__eq__"] = records.equal
        if "__hash__" not in cls.__dict__ or cls.__dict__["__hash__"] is None:
            added["__hash__"] = records.hashed if frozen else None
    if frozen:
        added |= {"__setattr__": records.refuse_to_set, "__delattr__": records.refuse_to_delete}
        if slots:
            added |= {"__getstate__": records.state, "__setstate__": records.set_state}
    added = {name: value for name, value in added.items() if name == "__hash__" or name not in cls.__dict__}
    return _slotted(cls, fields_of, added) if slots else _extended(cls, fields_of, added)


def _extended(cls: type, fields_of: _Reading, added: dict[str, Any]) -> type:
    for name in fields_of.own:
        if isinstance(cls.__dict__.get(name), Field):
            if name in fields_of.defaults:
                setattr(cls, name, fields_of.defaults[name])
            else:
                delattr(cls, name)
    for name, value in added.items():
        setattr(cls, name, value)
    return cls


def _slotted(cls: type, fields_of: _Reading, added: dict[str, Any]) -> type:
    """A class of the same name: slots cannot be added to one that is there."""
    namespace = {name: value for name, value in cls.__dict__.items() if name not in fields_of.own}
    for name in ("__dict__", "__weakref__"):
        namespace.pop(name, None)
    inherited = {name for base in cls.__mro__[1:-1] for name in getattr(base, "__slots__", ())}
    namespace["__slots__"] = tuple(name for name in fields_of.own if name not in inherited)
    return type(cls)(cls.__name__, cls.__bases__, {**namespace, "__qualname__": cls.__qualname__, **added})


def _standard(table: records.Table, owner: type) -> dict[str, Field[Any]]:
    """The fields as dataclasses.fields() shows them."""
    found: dict[str, Field[Any]] = {}
    hints = {
        name: hint for cls in owner.__mro__[::-1] for name, hint in cls.__dict__.get("__annotations__", {}).items()
    }
    for name in table.names:
        how: dict[str, Any] = {
            key: values[name]
            for key, values in (
                ("default", table.defaults),
                ("default_factory", table.factories),
                ("metadata", table.metadata),
            )
            if values and name in values
        }
        how |= {"repr": name in table.shown, "compare": name in table.compared, "kw_only": name in table.keywords}
        one: Field[Any] = field(**how)
        one.name, one.type = name, hints[name]
        one._field_type = _FIELD  # type: ignore[attr-defined]
        found[name] = one
    return found
