"""Methods that all classes of kubeedge.kit.dataclasses share."""

from collections.abc import Callable, Mapping
from dataclasses import Field
from typing import Any

class Table:
    """The fields of one class. `positional` may be given by place, `keywords` by name alone; None: no field has any."""

    names: tuple[str, ...]
    positional: tuple[str, ...]
    keywords: tuple[str, ...]
    compared: tuple[str, ...]
    shown: tuple[str, ...]
    defaults: dict[str, Any] | None
    factories: dict[str, Callable[[], Any]] | None
    metadata: dict[str, Mapping[Any, Any]] | None
    fields: dict[str, Field[Any]] | None  # the standard library's, once somebody has asked
    def __init__(
        self,
        names: tuple[str, ...],
        positional: tuple[str, ...],
        keywords: tuple[str, ...],
        compared: tuple[str, ...],
        shown: tuple[str, ...],
        defaults: dict[str, Any] | None,
        factories: dict[str, Callable[[], Any]] | None,
        metadata: dict[str, Mapping[Any, Any]] | None,
    ) -> None: ...

def initialise(self: object, /, *args: object, **given: object) -> None: ...
def equal(self: object, other: object, /) -> bool: ...
def hashed(self: object, /) -> int: ...
def shown(self: object, /) -> str: ...
def refuse_to_set(self: object, name: str, value: object, /) -> None: ...
def refuse_to_delete(self: object, name: str, /) -> None: ...
def state(self: object, /) -> list[object]: ...
def set_state(self: object, values: list[object], /) -> None: ...
