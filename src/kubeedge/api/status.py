"""Errors of the Kubernetes API: what an HTTP client sees as a metav1.Status, and what code in process catches.

Each class is also one of kubeedge.errors, so that a controller which knows only the KubeClient contract catches
NotFound or Conflict, and the HTTP layer finds code, reason and details in the same exception. Messages are worded as
kubectl users know them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from kubeedge.api.client import Resource
from kubeedge.api.names import Object
from kubeedge.errors import Conflict, Gone, Invalid, KubeEdgeError, NotFound, Refused, Unavailable, outward
from kubeedge.kit.dataclasses import dataclass

MAX_CAUSES = 32  # a manifest with a thousand mistakes does not need a thousand lines of answer


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong with one field, worded as `kubectl` prints it."""

    path: str
    message: str
    reason: str = "FieldValueInvalid"

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def required(path: str, detail: str = "") -> FieldError:
    """A field that is missing."""
    return FieldError(path, f"Required value: {detail}" if detail else "Required value", "FieldValueRequired")


def invalid(path: str, value: object, detail: str) -> FieldError:
    """A value that breaks a rule."""
    return FieldError(path, f"Invalid value: {quoted(value)}: {detail}", "FieldValueInvalid")


def unsupported(path: str, value: object, supported: Sequence[str]) -> FieldError:
    """A value that is not one of `supported`."""
    names = ", ".join(f'"{name}"' for name in supported)
    return FieldError(path, f"Unsupported value: {quoted(value)}: supported values: {names}", "FieldValueNotSupported")


def duplicate(path: str, value: object) -> FieldError:
    """A value that may occur once in its list."""
    return FieldError(path, f"Duplicate value: {quoted(value)}", "FieldValueDuplicate")


def forbidden(path: str, detail: str) -> FieldError:
    """A field or value that may not be used here."""
    return FieldError(path, f"Forbidden: {detail}", "FieldValueForbidden")


def not_found_value(path: str, value: object) -> FieldError:
    """A reference to what does not exist."""
    return FieldError(path, f"Not found: {quoted(value)}", "FieldValueNotFound")


def too_long(path: str, limit: int) -> FieldError:
    """A value of more than `limit` bytes."""
    return FieldError(path, f"Too long: must have at most {limit} bytes", "FieldValueTooLong")


def too_many(path: str, number: int, limit: int) -> FieldError:
    """A list of more than `limit` items."""
    return FieldError(path, f"Too many: {number}: must have at most {limit} items", "FieldValueTooMany")


def wrong_type(path: str, expected: str, found: str) -> FieldError:
    """A value whose JSON type is not the field's."""
    return FieldError(
        path, f'Invalid value: "{found}": {path} in body must be of type {expected}: "{found}"', "FieldValueTypeInvalid"
    )


def quoted(value: object) -> str:
    """A value as Go's field errors show it: strings quoted, numbers bare; never more than one line's worth."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    text = value[:201] if isinstance(value, str) else str(value)
    return '"' + (text if len(text) <= 200 else text[:200] + "...").replace('"', '\\"') + '"'


class StatusError(KubeEdgeError):
    """Base of the errors of this file."""

    code: ClassVar[int] = 500
    reason: ClassVar[str] = "InternalError"

    def __init__(self, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details or {}

    def status(self) -> Object:
        """The metav1.Status that a client gets."""
        return failure(self.code, self.reason, self.message, self.details)


def failure(code: int, reason: str, message: str, details: Object | None = None) -> Object:
    """A metav1.Status of a failure."""
    status: Object = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
    }
    status["details"] = (
        details or {}
    )  # also when there is nothing to say: kubectl looks into it without asking whether it is there
    status["code"] = code
    return status


def success(resource: Resource, name: str, uid: str) -> Object:
    """The metav1.Status that answers a deletion."""
    details: Object = {"name": name, "kind": resource.plural}
    if resource.group:
        details["group"] = resource.group
    if uid:
        details["uid"] = uid
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def qualified(resource: Resource) -> str:
    """ "pods", "deployments.apps": how messages name a resource."""
    return f"{resource.plural}.{resource.group}" if resource.group else resource.plural


def _details(resource: Resource, name: str) -> Object:
    details: Object = {"name": name, "kind": resource.plural}
    if resource.group:
        details["group"] = resource.group
    return details


class ObjectNotFound(StatusError, NotFound):
    """404: no object of this name."""

    code = 404
    reason = "NotFound"

    @classmethod
    def of(cls, resource: Resource, name: str) -> ObjectNotFound:
        """The 404 in the words of kube-apiserver: `pods "web" not found`."""
        return cls(f'{qualified(resource)} "{name}" not found', _details(resource, name))


class NoSuchPath(StatusError, NotFound):
    """404: the path, or the resource that it names, is not served."""

    code = 404
    reason = "NotFound"

    def __init__(self, message: str = "the server could not find the requested resource") -> None:
        super().__init__(message)


class AlreadyExists(StatusError, Conflict):
    """409 of a create: the name is taken."""

    code = 409
    reason = "AlreadyExists"

    @classmethod
    def of(cls, resource: Resource, name: str) -> AlreadyExists:
        """The 409 with reason AlreadyExists, in the words of kube-apiserver."""
        return cls(f'{qualified(resource)} "{name}" already exists', _details(resource, name))


class ObjectModified(StatusError, Conflict):
    """The resourceVersion or uid of the caller is not that of the object."""

    code = 409
    reason = "Conflict"

    @classmethod
    def of(
        cls,
        resource: Resource,
        name: str,
        why: str = "the object has been modified; please apply your changes to the latest version and try again",
    ) -> ObjectModified:
        """The 409 with reason Conflict; `why` follows the name in the message."""
        return cls(f'Operation cannot be fulfilled on {qualified(resource)} "{name}": {why}', _details(resource, name))


class InvalidObject(StatusError, Invalid):
    """422: the object breaks rules; the causes are field errors."""

    code = 422
    reason = "Invalid"

    @classmethod
    def of(cls, resource: Resource, name: str, errors: Sequence[FieldError]) -> InvalidObject:
        """The 422 in the words of kube-apiserver, with the first 32 errors as causes. `errors` must not be empty."""
        shown = errors[:MAX_CAUSES]
        text = str(shown[0]) if len(shown) == 1 else "[" + ", ".join(map(str, shown)) + "]"
        details: Object = {"name": name, "kind": resource.kind}
        if resource.group:
            details["group"] = resource.group
        details["causes"] = [{"reason": e.reason, "message": e.message, "field": e.path} for e in shown]
        kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
        return cls(f'{kind} "{name}" is invalid: {text}', details)


class BadRequest(StatusError, Invalid):
    """400: the request cannot be understood."""

    code = 400
    reason = "BadRequest"


class Expired(StatusError, Gone):
    """410: a watch or a continued list from before the compaction; list again."""

    code = 410
    reason = "Expired"


class Unauthorized(StatusError, Refused):
    """401: the request has no valid credentials."""

    code = 401
    reason = "Unauthorized"


class Forbidden(StatusError, Refused):
    """403: known, and not allowed."""

    code = 403
    reason = "Forbidden"

    @classmethod
    def of(cls, resource: Resource, name: str, why: str) -> Forbidden:
        """The 403 with reason Forbidden; `why` follows the name in the message."""
        return cls(f'{qualified(resource)} "{name}" is forbidden: {why}', _details(resource, name))


class MethodNotAllowed(StatusError, Invalid):
    """405: the resource has no such verb."""

    code = 405
    reason = "MethodNotAllowed"

    def __init__(self, message: str = "the server does not allow this method on the requested resource") -> None:
        super().__init__(message)


class NotAcceptable(StatusError, Invalid):
    """406: no media type that the client accepts can be given."""

    code = 406
    reason = "NotAcceptable"


class UnsupportedMediaType(StatusError, Invalid):
    """415: the body's media type is not understood."""

    code = 415
    reason = "UnsupportedMediaType"


class TooLarge(StatusError, Invalid):
    """413: the body, or the object that it makes, is over a limit."""

    code = 413
    reason = "RequestEntityTooLarge"


class TooManyRequests(StatusError, Unavailable):
    """`retry_after`: seconds to wait, as an HTTP client hears them in Retry-After and in the details."""

    code = 429
    reason = "TooManyRequests"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message, {"retryAfterSeconds": max(1, math.ceil(retry_after))})
        self.retry_after = retry_after


class NodeUnreachable(StatusError, Unavailable):
    """504: the node has no link, or did not answer."""

    code = 504
    reason = "Timeout"


class BadGateway(StatusError, Unavailable):
    """502: the node's answer was not HTTP."""

    code = 502
    reason = "InternalError"


class ServerUnavailable(StatusError, Unavailable):
    """503: it may work later."""

    code = 503
    reason = "ServiceUnavailable"


_BORDER: tuple[tuple[type[KubeEdgeError], int, str], ...] = (
    (NotFound, 404, "NotFound"),
    (Conflict, 409, "Conflict"),
    (Gone, 410, "Expired"),
    (Refused, 403, "Forbidden"),
    (Invalid, 400, "BadRequest"),
    (Unavailable, 503, "ServiceUnavailable"),
)


def of_error(exc: BaseException) -> Object:
    """The Status that reports an exception to a client; one that is not ours is an internal error without details."""
    if isinstance(exc, StatusError):
        return exc.status()
    for kind, code, reason in _BORDER:
        if isinstance(exc, kind):
            wait = exc.retry_after if isinstance(exc, Unavailable) else None
            return failure(code, reason, outward(exc), {"retryAfterSeconds": math.ceil(wait)} if wait else None)
    return failure(500, "InternalError", "an error on the server has prevented the request from succeeding")


def message_of(status: Any) -> str:
    """The message of a Status; "" for what is not one."""
    return str(status.get("message", "")) if isinstance(status, dict) else ""
