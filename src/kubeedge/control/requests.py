"""What the body of a control request asks for: checked readers, for both processes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kubeedge.errors import Invalid
from kubeedge.kit.http1 import Request

MAX_BODY = 64 * 1024  # bytes


async def request_object(request: Request, *, limit: int = MAX_BODY) -> dict[str, Any]:
    """The body as a JSON object; an empty body is an empty object. Raises Invalid, BodyTooLarge."""
    try:
        body = json.loads(await request.read(limit) or b"{}")
    except (ValueError, RecursionError) as exc:
        raise Invalid("the body is not JSON") from exc
    if not isinstance(body, dict):
        raise Invalid("the body is not a JSON object")
    return body


def ping_request(body: Mapping[str, Any]) -> tuple[int, float]:
    """(count, seconds between two) of a request for pings. Raises Invalid."""
    count, interval = body.get("count", 4), body.get("interval", 1.0)
    if not isinstance(count, int) or not 1 <= count <= 1000:
        raise Invalid(f"{count!r}; it must be from 1 to 1000", path="count")
    if not isinstance(interval, int | float) or not 0.01 <= interval <= 60:
        raise Invalid(f"{interval!r}; it must be from 0.01 to 60 seconds", path="interval")
    return count, float(interval)


def optional_text(body: Mapping[str, Any], name: str) -> str | None:
    """None when it is absent or empty."""
    value = body.get(name)
    return str(value) if value else None
