"""What a Device says about lines of text: scales, meters, GPS receivers, Arduinos. Pure.

configData of a Device: serialPort, baudRate, dataBits, parity, stopBits (serial_port.py), lineEnd ("\\n"), timeout (milliseconds). Of a property: request (a
line that is sent to read it), start (what the line of its answer begins with), separator and field (which part of the rest), or pointer (into JSON);
write (a line with {value}), answer (what the device says to it: its beginning; "": nothing is waited for); push (the line comes by itself).
"""

from __future__ import annotations

from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass
from kubeedge.mapper import documents
from kubeedge.mapper.values import MappedDevice, MappedProperty, TypedValue

MAX_LINE = 4096  # bytes
_MAX_TEXT = 256  # characters of a request
_ENDS = ("\n", "\r\n", "\r", ";")


def end_of(device: MappedDevice) -> bytes:
    """What ends a line. Raises Invalid."""
    found = device.config.get("lineEnd", "\n")
    if found not in _ENDS:
        raise device.invalid("lineEnd must be one of \\n, \\r\\n, \\r and ;")
    return str(found).encode()


@dataclass(frozen=True, slots=True)
class LineVisitor:
    """How a property is read and written, as its visitor says."""

    request: str
    start: str
    separator: str
    field: int | None
    write: str
    answer: str


def visitor_of(prop: MappedProperty) -> LineVisitor:
    """Raises Invalid with what is wrong."""
    texts = {}
    for key in ("request", "start", "separator", "write", "answer"):
        text = prop.visitor.get(key, "")
        if not isinstance(text, str) or len(text) > _MAX_TEXT or any(c < " " and c != "\t" for c in text):
            raise prop.invalid(f"{key} must be a text of one line")
        texts[key] = text
    if texts["write"] and "{value}" not in texts["write"]:
        raise prop.invalid("write must have {value} in it")
    if not texts["request"] and not prop.is_pushed and not texts["write"]:
        raise prop.invalid("request, push or write is required")
    field = None if prop.visitor.get("field") is None else prop.number("field", 0, 255)
    return LineVisitor(texts["request"], texts["start"], texts["separator"], field, texts["write"], texts["answer"])


def value_of(prop: MappedProperty, visitor: LineVisitor, line: str) -> TypedValue:
    """The value in a line. Raises Invalid, with the property's name."""
    if not line.startswith(visitor.start):
        raise prop.invalid(f"the device answers {line[:40]!r}")
    rest = line[len(visitor.start) :]
    if visitor.field is not None:
        parts = rest.split(visitor.separator or None)
        if visitor.field >= len(parts):
            raise prop.invalid(f"{line[:40]!r} has {len(parts)} fields")
        rest = parts[visitor.field]
    try:
        return documents.Document(rest.encode()).value(prop)
    except documents.NoSuchValue:
        raise
    except Invalid as exc:
        raise exc if prop.name in str(exc) else prop.invalid(str(exc)) from exc


def writing(prop: MappedProperty, visitor: LineVisitor, value: TypedValue) -> str:
    """The line that sets a value. Raises Invalid for a text that would be more than one line."""
    if not visitor.write:
        raise prop.invalid("its visitor has no write")
    text = prop.text(value)
    if any(not c.isprintable() for c in text) or ";" in text:
        raise prop.invalid("the value would be more than one line")
    return visitor.write.replace("{value}", text)
