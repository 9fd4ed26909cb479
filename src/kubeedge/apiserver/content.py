"""Bodies and media types: what a client sends, and which form of answer it asks for. No I/O.

Input comes from strangers: sizes were limited by the caller; nesting, numbers and text are checked here, once, so that
everything behind this door may recurse and encode without fear.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from kubeedge.api import strict_json
from kubeedge.api.status import BadRequest, NotAcceptable, TooLarge, UnsupportedMediaType
from kubeedge.errors import Invalid

JSON = "application/json"
BODY_LIMIT = 3 * 1024 * 1024  # bytes; the limit of kube-apiserver
_YAML_LIMIT = 256 * 1024  # bytes; YAML is parsed much slower than JSON
_MAX_ACCEPT = 32  # alternatives looked at


def decode_json(data: bytes) -> Any:
    """Raises BadRequest."""
    try:
        return strict_json.loads(data, what="the body")
    except Invalid as exc:
        raise BadRequest(str(exc)) from exc


def decode_yaml(data: bytes) -> Any:
    """YAML that is JSON in other clothes: no aliases (a page of them can mean gigabytes), no tags, no time stamps."""
    try:
        return decode_json(data)
    except BadRequest:
        if len(data) > _YAML_LIMIT:
            raise TooLarge(f"a YAML body may have {_YAML_LIMIT} bytes; send JSON") from None
    import yaml  # optional means not imported: most clients send JSON

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers = {
            first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    try:
        depth = 0
        for event in yaml.parse(data, Loader=Loader):
            if isinstance(event, yaml.AliasEvent):
                raise BadRequest("YAML aliases (*name) are not accepted: write the value out")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > strict_json.MAX_DEPTH:
                raise BadRequest(f"the body is nested deeper than {strict_json.MAX_DEPTH} levels")
        value = yaml.load(data, Loader=Loader)  # a SafeLoader
        return decode_json(json.dumps(value, allow_nan=False).encode())
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as exc:
        raise BadRequest(f"the body is not YAML that JSON can say: {str(exc)[:200]}") from exc


def decode(content_type: str | None, data: bytes) -> Any:
    """By media type; kubectl's older versions send none. Raises UnsupportedMediaType, BadRequest."""
    match media_type(content_type or JSON):
        case "application/json" | "text/json" | "":
            return decode_json(data)
        case "application/yaml" | "application/x-yaml" | "text/yaml":
            return decode_yaml(data)
        case other:
            raise UnsupportedMediaType(
                f"the body of the request was in an unknown format ({other[:100]}) - accepted media types include: "
                "application/json, application/yaml"
            )


def media_type(header: str) -> str:
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
