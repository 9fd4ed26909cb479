"""HTTP answers of the API server: objects, documents, and errors as Status objects. No I/O."""

from __future__ import annotations

from kubeedge.api import meta
from kubeedge.api.names import Object
from kubeedge.api.status import NoSuchPath, of_error
from kubeedge.apiserver import content
from kubeedge.kit.http1 import Response


def ok(obj: Object, media: str = content.JSON) -> Response:
    """The answer 200 with an object."""
    return Response(200, [("content-type", media)], meta.encode(obj))


def found(obj: Object | None) -> Response:
    """200 with an object. Raises NoSuchPath for None."""
    if obj is None:
        raise NoSuchPath
    return ok(obj)


def document(data: bytes | None) -> Response:
    """200 with JSON that is encoded already. Raises NoSuchPath for None."""
    if data is None:
        raise NoSuchPath
    return Response(200, [("content-type", content.JSON)], data)


def status_response(error: Exception) -> Response:
    """The HTTP answer that reports an error, with Retry-After where it helps."""
    status = of_error(error)
    headers = [("content-type", content.JSON)]
    code = int(status["code"])
    if code in (429, 503):
        headers.append(("retry-after", str(status["details"].get("retryAfterSeconds", 1))))
    return Response(code, headers, meta.encode(status))
