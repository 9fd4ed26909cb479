"""Bodies and media types: what a client sends, and which form of answer it asks for. No I/O.

Input comes from any client: sizes were limited by the caller; the number of values, nesting, numbers and text are checked here, once, so that
everything behind this may recurse and encode without fear.
"""

from __future__ import annotations

from typing import Any

from kubeedge.api import json_bounds, strict_json
from kubeedge.api.json_bounds import JsonBounds, TooManyValues
from kubeedge.api.status import BadRequest, NotAcceptable, TooLarge, UnsupportedMediaType
from kubeedge.api.yaml_body import decode_yaml
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass

JSON = "application/json"
BODY_LIMIT = 3 * 1024 * 1024  # bytes; the limit of kube-apiserver
_MAX_ACCEPT = 32  # alternatives looked at


def decode_json(data: bytes, bounds: JsonBounds = json_bounds.DEFAULT) -> Any:
    """A request body as JSON. Raises BadRequest for what is none, TooLarge beyond the bounds."""
    try:
        return strict_json.loads(data, what="the body", bounds=bounds)
    except TooManyValues as exc:
        raise TooLarge(str(exc)) from exc
    except Invalid as exc:
        raise BadRequest(str(exc)) from exc


def decode_protobuf(data: bytes) -> Any:
    """A request body in Kubernetes' protobuf, as the JSON object that it stands for. Raises BadRequest, TooLarge."""
    from kubeedge.api import proto  # not every client sends it

    try:
        return proto.decode(data)
    except TooManyValues as exc:
        raise TooLarge(str(exc)) from exc
    except Invalid as exc:
        raise BadRequest(f"the body is not an object in protobuf: {exc}") from exc


def decode(content_type: str | None, data: bytes) -> Any:
    """The object in a body, by its media type; kubectl's older versions send none. Raises UnsupportedMediaType or BadRequest."""
    match media_type(content_type or JSON):
        case "application/json" | "text/json" | "":
            return decode_json(data)
        case "application/yaml" | "application/x-yaml" | "text/yaml":
            return decode_yaml(data)
        case "application/vnd.kubernetes.protobuf":
            return decode_protobuf(data)
        case other:
            raise UnsupportedMediaType(
                f"the body of the request was in an unknown format ({other[:100]}) - accepted media types include: "
                "application/json, application/yaml, application/vnd.kubernetes.protobuf"
            )


def media_type(header: str) -> str:
    """The media type of a Content-Type header, without parameters."""
    return header.partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class Accept:
    """The form of answer: `as_kind` "" (the object), "Table", "PartialObjectMetadata", "APIGroupDiscoveryList"..."""

    as_kind: str = ""
    group: str = ""
    version: str = ""


def negotiate(header: str | None, *, transforms: tuple[str, ...] = ()) -> Accept:
    """The first alternative that we can give. Raises NotAcceptable.

    Order counts and weights do not, as in kube-apiserver: no Kubernetes client sends weights.
    """
    alternatives = (header or "*/*").split(",")[:_MAX_ACCEPT]
    for alternative in alternatives:
        kind, *parameters = (part.strip() for part in alternative.split(";"))
        if kind.lower() not in (JSON, "*/*", "application/*", "text/json"):
            continue
        values = dict(parameter.partition("=")[::2] for parameter in parameters)
        found = Accept(values.get("as", ""), values.get("g", ""), values.get("v", ""))
        if not found.as_kind:
            return Accept()
        if found.as_kind in transforms and _known(found):
            return found
    raise NotAcceptable("only the following media types are accepted: application/json")


def _known(accept: Accept) -> bool:
    match accept.group:
        case "meta.k8s.io":
            return accept.version in ("v1", "v1beta1")
        case "apidiscovery.k8s.io":
            return accept.version in ("v2", "v2beta1")
    return False


def warning_header(text: str) -> tuple[str, str]:
    """RFC 7234 section 5.5: one line, quoted."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in text)[:1000]
    return ("warning", '299 - "' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"')
