"""The topics and messages of method calls. Pure.

$ke/events/device/NAMESPACE/NAME/method/call      to the mapper: {"event_id", "timestamp", "expires", "method", "parameters": {NAME: TEXT}}
$ke/events/device/NAMESPACE/NAME/method/result    from it: {"event_id", "result": any JSON}, or {"event_id", "code", "reason"}
$ke/events/devices/method/call                    from programs of the node: {"event_id", "id", "method", "parameters", "timeoutSeconds"}
$ke/events/devices/method/call/result             {"event_id", "timestamp", "result"}, or with "code" and "reason"
"""

from __future__ import annotations

from typing import Any

from kubeedge.api.device_methods import MAX_BODY, MethodCall
from kubeedge.api.names import NamespacedName
from kubeedge.devices import topics
from kubeedge.errors import Invalid, KubeEdgeError
from kubeedge.kit.dataclasses import dataclass

_DEVICE = "$ke/events/device/"
_CALL, _RESULT = "/method/call", "/method/result"
ASK = f"{topics.DEVICES}method/call"
ANSWER = f"{ASK}/result"
FILTERS = (f"{_DEVICE}+/+{_RESULT}", ASK)
_CODES = range(400, 600)


class MethodFailed(KubeEdgeError):
    """A call has no result. `code`: as of HTTP."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def call_topic(key: NamespacedName) -> str:
    """Where the mapper of a device hears of calls."""
    return f"{_DEVICE}{'/'.join(key)}{_CALL}"


def is_result(topic: str) -> bool:
    """A mapper answers there."""
    return topic.startswith(_DEVICE) and topic.endswith(_RESULT)


def call(event: str, now: int, one: MethodCall) -> bytes:
    """The message to the mapper, which is not to perform the call after `expires`. `now` is in milliseconds since 1970."""
    expires = now + int(one.timeout * 1000)
    return topics.answer(event, now, method=one.method, parameters=dict(one.arguments), expires=expires)


def result_key(topic: str) -> tuple[str, ...]:
    """The device in the topic of a result."""
    return tuple(topic[len(_DEVICE) : -len(_RESULT)].split("/"))


def answered(payload: bytes) -> tuple[str, Any]:
    """(event id, what the mapper gave or why it gave nothing: MethodFailed). Raises Invalid for what is no answer."""
    if len(payload) > MAX_BODY:
        raise Invalid(f"the result is larger than {MAX_BODY} bytes")
    value = topics.event_of(payload)
    event = topics.event_id(value)
    if "reason" in value or "code" in value:
        code, reason = value.get("code"), value.get("reason")
        return event, MethodFailed(
            code if isinstance(code, int) and not isinstance(code, bool) and code in _CODES else 500,
            reason[:1000] if isinstance(reason, str) and reason else "the mapper does not say why",
        )
    return event, value.get("result")


@dataclass(frozen=True, slots=True)
class MethodRequest:
    """What a program of the node asks for; `body` is checked when the device is known."""

    event: str
    identifier: tuple[str, ...]
    method: str
    body: dict[str, Any]


def request(payload: bytes) -> MethodRequest:
    """The contents of a message on ASK. Raises Invalid."""
    if len(payload) > MAX_BODY:
        raise Invalid(f"the call is larger than {MAX_BODY} bytes")
    value = topics.event_of(payload)
    identifier, method = value.get("id"), value.get("method")
    if not isinstance(identifier, str) or not isinstance(method, str) or identifier.count("/") > 1:
        raise Invalid("id and method are texts, as NAMESPACE/NAME and open")
    body: dict[str, Any] = {key: value[key] for key in ("parameters", "timeoutSeconds") if key in value}
    return MethodRequest(topics.event_id(value), tuple(identifier.split("/")), method, body)
