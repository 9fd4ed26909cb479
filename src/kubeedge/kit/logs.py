"""Log lines: one line a record, to stderr, for readers and for `grep`.

    2026-11-23T03:19:57.123Z info kubeedge.hub: attached session=7 revision=42

Control characters are escaped, so that a value that is not trusted cannot forge a line. With `json=True` each line is
one JSON object with the same parts.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import TextIO

LEVELS = ("debug", "info", "warning", "error")
_MAX_LINE = 16 * 1024  # characters; a line that is longer is cut, whatever was put into it

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(0x7F, 0xA0))} | {
    0x09: "\\t",
    0x0A: "\\n",
    0x0D: "\\r",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}


class LineFormatter(logging.Formatter):
    """Lines for readers: time, level, logger, message, with control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line; newlines of its traceback are escaped."""
        text = f"{moment(record.created)} {record.levelname.lower()} {record.name}: {self.text_of(record)}"
        return _cut(text).translate(_ESCAPES)

    def text_of(self, record: logging.LogRecord) -> str:
        """The message, then the traceback."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            text += "\n" + self.formatException(record.exc_info)
        if record.stack_info:
            text += "\n" + record.stack_info
        return text


class JsonFormatter(LineFormatter):
    """Lines for machines: one JSON object each."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON."""
        import json  # only who asks for it pays for it

        return json.dumps(
            {
                "time": moment(record.created),
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": _cut(self.text_of(record)),
            }
        )


def setup(level: str = "info", *, json: bool = False, stream: TextIO | None = None) -> None:
    """Send all logs to stderr (or `stream`) from here on. May be called again: the last call counts."""
    if level not in LEVELS:
        raise ValueError(f"log level {level!r} is not one of {', '.join(LEVELS)}")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if json else LineFormatter())
    root = logging.getLogger()
    for old in [h for h in root.handlers if getattr(h, "_kubeedge", False)]:
        root.removeHandler(old)
        old.close()
    handler._kubeedge = True  # type: ignore[attr-defined]
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.raiseExceptions = False  # a log line that cannot be written must not add a traceback to a full pipe


def moment(seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds."""
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{milliseconds:03d}Z"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_LINE else f"{text[:_MAX_LINE]} ... ({len(text)} characters)"
