"""XML of devices, within bounds. Pure.

A document type is refused, and with it every entity that is not one of XML's five: no document becomes larger than what came. Prefixes are left
out, because cameras use some that they never declare: names are local ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.parsers import expat

from kubeedge.errors import PeerError
from kubeedge.kit.dataclasses import dataclass, field

MAX_BYTES = 256 * 1024  # of a document
_MAX_ELEMENTS = 8192
_MAX_DEPTH = 64
_MAX_ATTRIBUTES = 32  # of an element


@dataclass(slots=True)
class XmlElement:
    """An element, its attributes, its own text, and what is in it."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    text: str = ""
    children: list[XmlElement] = field(default_factory=list)

    def all(self, name: str) -> Iterator[XmlElement]:
        """Every element of that name below this one, in the order of the document."""
        for child in self.children:
            if child.name == name:
                yield child
            yield from child.all(name)

    def first(self, *path: str) -> XmlElement | None:
        """The first element of the first name below this one, in it the first of the next name, and so on; None: there is none."""
        found: XmlElement | None = self
        for name in path:
            if found is None:
                return None
            found = next(found.all(name), None)
        return found

    def value(self, *path: str) -> str:
        """The text of what `first` finds; "" without it."""
        found = self.first(*path)
        return "" if found is None else found.text.strip()


def parse(data: bytes) -> XmlElement:
    """The root of a document. Raises PeerError for what is no XML, or is too much of it."""
    if len(data) > MAX_BYTES:
        raise PeerError(f"a document of {len(data)} bytes, more than {MAX_BYTES}")
    builder = _Builder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as exc:  # LookupError: an encoding that Python has not
        raise PeerError(f"this is no XML: {exc}") from exc
    return builder.root.children[0]


def _refuse_doctype(*_: Any) -> None:
    raise PeerError("a document with a document type: nothing that a device says needs one")


class _Builder:
    def __init__(self) -> None:
        self.root = XmlElement("")
        self._open = [self.root]
        self._texts: list[list[str]] = [[]]
        self._count = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > _MAX_ELEMENTS or len(self._open) > _MAX_DEPTH or len(attributes) > _MAX_ATTRIBUTES:
            raise PeerError(
                f"a document of more than {_MAX_ELEMENTS} elements, {_MAX_DEPTH} levels, or {_MAX_ATTRIBUTES} attributes"
            )
        element = XmlElement(_local(name), {_local(key): value for key, value in attributes.items()})
        self._open[-1].children.append(element)
        self._open.append(element)
        self._texts.append([])

    def end(self, name: str) -> None:
        self._open.pop().text = "".join(self._texts.pop())

    def data(self, text: str) -> None:
        self._texts[-1].append(text)


def _local(name: str) -> str:
    return name.rpartition(":")[2]
