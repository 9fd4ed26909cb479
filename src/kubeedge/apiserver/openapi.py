"""The OpenAPI documents that kubectl reads: which query parameters a PATCH takes, and for `explain` the types of kinds.

`dryRun` and `fieldValidation` in the parameters of a kind's PATCH tell kubectl that the server checks manifests itself.
Version 3 has the types of schema.py with descriptions.txt, which `kubectl explain` prints; it is kept compressed. No client merges by them: for that a PATCH would have
to name the media types of its body, so kubectl merges by the types it was built with, which is right for every built-in
kind. Version 2 has no types, because an old kubectl would check manifests by them.

Kubectl up to 1.26 wants version 2 as protobuf (the message Document of gnostic's OpenAPIv2.proto); the few fields of
it that we need are encoded here by hand. Field numbers are in the comments.
"""

from __future__ import annotations

import functools
import hashlib
import json
import zlib
from collections.abc import Iterator
from typing import TypeAlias

from kubeedge.api import schema
from kubeedge.api.names import Object
from kubeedge.api.resources import Resources, Row
from kubeedge.apiserver import descriptions
from kubeedge.apiserver.descriptions import Descriptions
from kubeedge.kit.varint import varint

Rows: TypeAlias = tuple[Row, ...]

_KEPT = 16  # documents of each form; tenants without custom resources share theirs
_PARAMETERS = ("dryRun", "fieldManager", "fieldValidation", "force")
_TITLE = "KubeEdge"
#: kubectl asks with "@v1.0" in the name, which is no media type: its own parser refuses it in an answer
PROTOBUF_V2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_REF = "#/components/schemas/"
_KIND = "x-kubernetes-group-version-kind"
#: the schemas of the types that are a plain JSON value, by their names in api/schema_table.py
PLAIN: dict[str, Object] = {
    "str": {"type": "string"},
    "time": {"type": "string", "format": "date-time"},
    "int": {"type": "integer", "format": "int32"},
    "long": {"type": "integer", "format": "int64"},
    "num": {"type": "number", "format": "double"},
    "bool": {"type": "boolean"},
    "any": {"x-kubernetes-preserve-unknown-fields": True},
}
_NAMED: dict[str, tuple[str, Object]] = {  # kubectl prints the name of what is no plain type
    "quantity": ("Quantity", {"oneOf": [{"type": "string"}, {"type": "number"}]}),
    "intorstr": ("IntOrString", {"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"}),
}


def _path(row: Row) -> str:
    resource = row.resource
    base = f"/apis/{resource.group}" if resource.group else "/api"
    scope = "namespaces/{namespace}/" if resource.namespaced else ""
    return f"{base}/{resource.version}/{scope}{resource.plural}/{{name}}"


def _kind(row: Row) -> Object:
    return {"group": row.resource.group, "version": row.resource.version, "kind": row.resource.kind}


@functools.lru_cache(maxsize=_KEPT)
def version_2_json(rows: Rows) -> bytes:
    """The answer to GET /openapi/v2, encoded."""
    paths: Object = {}
    for row in rows:
        operation = {
            "parameters": [{"name": name, "in": "query", "type": "string"} for name in _PARAMETERS],
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": "patch",
            _KIND: _kind(row),
        }
        paths[_path(row)] = {"patch": operation}
    document = {"swagger": "2.0", "info": {"title": _TITLE, "version": "v1"}, "paths": paths, "definitions": {}}
    return json.dumps(document).encode()


@functools.lru_cache(maxsize=_KEPT)
def version_2_protobuf(rows: Rows) -> bytes:
    """/openapi/v2, as gnostic's Document in protobuf."""
    parameters = b"".join(
        # Operation.parameters = 8, ParametersItem.parameter = 1, Parameter.non_body_parameter = 2,
        # NonBodyParameter.query_parameter_sub_schema = 3, QueryParameterSubSchema {in = 2, name = 4, type = 6}
        _bytes(8, _bytes(1, _bytes(2, _bytes(3, _text(2, "query") + _text(4, name) + _text(6, "string")))))
        for name in _PARAMETERS
    )
    paths = b""
    for row in rows:
        # Operation.vendor_extension = 13, NamedAny {name = 1, value = 2}, Any.yaml = 2
        kind = _text(1, _KIND) + _bytes(2, _text(2, json.dumps(_kind(row))))
        operation = parameters + _bytes(13, kind)
        # Paths.path = 2, NamedPathItem {name = 1, value = 2}, PathItem.patch = 8
        paths += _bytes(2, _text(1, _path(row)) + _bytes(2, _bytes(8, operation)))
    # Document {swagger = 1, info = 2 {title = 1, version = 2}, paths = 8}
    return _text(1, "2.0") + _bytes(2, _text(1, _TITLE) + _text(2, "v1")) + _bytes(8, paths)


def _bytes(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def _text(number: int, value: str) -> bytes:
    return _bytes(number, value.encode())


def _group_paths(rows: Rows) -> Iterator[tuple[str, str, str]]:
    for group, version in Resources(rows).group_versions():
        yield (f"apis/{group}/{version}" if group else f"api/{version}"), group, version


@functools.lru_cache(maxsize=_KEPT)
def version_3_index(rows: Rows) -> bytes:
    """/openapi/v3: the documents with their hashes."""
    paths = {}
    for path, group, version in _group_paths(rows):
        digest = hashlib.sha256(_version_3(rows, group, version) or b"").hexdigest()[:32].upper()
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
    return json.dumps({"paths": paths}).encode()


def version_3(rows: Rows, group: str, version: str) -> bytes | None:
    """The OpenAPI v3 document of one group version; None when it is not served."""
    packed = _version_3(rows, group, version)
    return None if packed is None else zlib.decompress(packed)


@functools.lru_cache(maxsize=_KEPT)
def _version_3(rows: Rows, group: str, version: str) -> bytes | None:
    """It has a tenth of its size when it is packed, and is asked for once a day."""
    paths: Object = {}
    for row in rows:
        if (row.resource.group, row.resource.version) == (group, version):
            operation = {
                "parameters": [{"name": name, "in": "query", "schema": {"type": "string"}} for name in _PARAMETERS],
                "responses": {"200": {"description": "OK"}},
                "x-kubernetes-action": "patch",
                _KIND: _kind(row),
            }
            paths[_path(row)] = {"patch": operation}
    if not paths:
        return None
    document = {
        "openapi": "3.0.0",
        "info": {"title": _TITLE, "version": "v1"},
        "paths": paths,
        "components": {"schemas": _schemas(rows, group, version)},
    }
    return zlib.compress(json.dumps(document).encode())


def _schemas(rows: Rows, group: str, version: str) -> Object:
    """The types of a group version's kinds, and every type that those have somewhere in them."""
    made = _Schemas(descriptions.read())
    for row in rows:
        if (row.resource.group, row.resource.version) == (group, version):
            made.add_kind(row)
    return made.found


class _Schemas:
    """The schemas of types by name, each with those that it refers to."""

    def __init__(self, texts: Descriptions) -> None:
        self.found: Object = {}
        self._texts = texts

    def add_kind(self, row: Row) -> None:
        name = row.strategy.schema
        if not schema.fields_of(name):
            name = f"{row.resource.group}.{row.resource.version}.{row.resource.kind}"  # dots: never the name of a type of the table
            self.found[name] = self._of_unknown()
        else:
            self._add(name)
        self.found[name][_KIND] = [_kind(row)]

    def _of_unknown(self) -> Object:
        """A kind of which only the metadata is known."""
        metadata = self._reference("ObjectMeta")
        properties = {"apiVersion": PLAIN["str"], "kind": PLAIN["str"], "metadata": metadata}
        return {"type": "object", "properties": properties, **PLAIN["any"]}

    def _add(self, name: str) -> None:
        if name in self.found:
            return
        properties: Object = {}
        self.found[name] = _described({"type": "object", "properties": properties}, self._texts.of_type(name))
        for field, what in schema.types()[name].items():
            properties[field] = _described(self._shaped(what), self._texts.of_field(name, field))

    def _shaped(self, field: schema.Field) -> Object:
        one = PLAIN.get(field.type) or self._reference(field.type)
        match field.shape:
            case "list":
                return {"type": "array", "items": one}
            case "map":
                return {"type": "object", "additionalProperties": one}
        return one

    def _reference(self, kind: str) -> Object:
        if kind not in _NAMED:
            self._add(kind)
            return {"$ref": _REF + kind}
        name, self.found[name] = _NAMED[kind]
        return {"$ref": _REF + name}


def _described(value: Object, text: str) -> Object:
    """Beside a reference nothing else counts, so that becomes one of all that holds."""
    if not text:
        return value
    if "$ref" in value:
        value = {"allOf": [value]}
    return {"description": text, **value}
