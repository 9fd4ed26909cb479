"""Calls of a device's methods as a mapper gets and answers them (kubeedge.devices.methods.core has the other end). Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass

DEVICE = "$ke/events/device/"
CALL, RESULT = "/method/call", "/method/result"
MAX_RESULT = 160 * 1024  # bytes of what a handler gives, as JSON
BUSY, FAILED, NOT_FOUND, AWAY = 429, 500, 404, 503


@dataclass(frozen=True, slots=True)
class AskedMethod:
    """`expires`: milliseconds since 1970, after which nobody waits for the result any more."""

    device: str
    event: str
    method: str
    parameters: Mapping[str, str]
    expires: int


def asked(topic: str, value: Mapping[str, Any]) -> AskedMethod:
    """The call in a message. Raises Invalid: any program of the node may have sent it."""
    event, method, parameters, expires = (value.get(key) for key in ("event_id", "method", "parameters", "expires"))
    if not isinstance(event, str) or not isinstance(method, str) or not isinstance(parameters, dict):
        raise Invalid("a call without event_id, method or parameters")
    if not isinstance(expires, int) or not all(isinstance(text, str) for text in parameters.values()):
        raise Invalid("a call without texts or without its end")
    return AskedMethod(topic[len(DEVICE) : -len(CALL)], event, method, parameters, expires)


def given(call: AskedMethod, result: Any) -> bytes:
    """The message with a result. Raises Invalid for what is no JSON or too large."""
    try:
        text = json.dumps({"event_id": call.event, "result": result}, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise Invalid(f"method {call.method}: what its handler gave is no JSON: {exc}") from exc
    if len(text) > MAX_RESULT:
        raise Invalid(f"method {call.method}: its result is larger than {MAX_RESULT} bytes")
    return text.encode()


def not_given(call: AskedMethod, code: int, reason: str) -> bytes:
    """The message that there is no result. `code`: as of HTTP."""
    found = {"event_id": call.event, "code": code, "reason": reason[:1000]}
    return json.dumps(found, separators=(",", ":")).encode()
