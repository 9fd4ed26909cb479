"""Kubernetes' protobuf, decoded into the objects that its JSON would have given. Pure; nothing is encoded.

    6b 38 73 00                        "k8s" and a zero, then runtime.Unknown:
      1 typeMeta {1 apiVersion, 2 kind}  2 raw: the object  3 contentEncoding  4 contentType

kubectl and Helm create in this form. Numbers and names come from a table that is generated from Kubernetes' types (proto_table.py). Go
writes a zero of a field that is no pointer, and leaves it out of its JSON: so does this.
"""

from __future__ import annotations

import functools

from kubeedge.api.names import Object
from kubeedge.api.protobuf import ProtoReader, ProtoTypes, parsed, text
from kubeedge.errors import Invalid

MAGIC = b"k8s\0"
_PREFIXED = ("coordination.k8s.io", "policy", "autoscaling", "authorization.k8s.io", "authentication.k8s.io")


@functools.cache
def _types() -> ProtoTypes:
    from kubeedge.api.proto_table import TABLE  # most processes never need it

    return parsed(TABLE)


def decode(data: bytes) -> Object:
    """The object with its apiVersion and kind. Raises Invalid."""
    if not data.startswith(MAGIC):
        raise Invalid("it does not begin as Kubernetes' protobuf does")
    reader = ProtoReader(_types())
    version = kind = ""
    raw: memoryview = memoryview(b"")
    for number, value in reader.fields(memoryview(data)[len(MAGIC) :]):
        match number, value:
            case 1, memoryview():
                texts = {n: text(v) for n, v in reader.fields(value) if n in (1, 2)}
                version, kind = texts.get(1, ""), texts.get(2, "")
            case 2, memoryview():
                raw = value
            case ((3 | 4), memoryview()) if len(value):
                raise Invalid(f"content of the encoding or type {text(value)[:64]!r} is not known")
    fields = _types().get(_type_of(version, kind))
    if fields is None:
        raise Invalid(f"{kind[:64]!r} in version {version[:64]!r} is not known in protobuf; send JSON")
    return {"kind": kind, "apiVersion": version, **reader.message(fields, raw, 0)}


def _type_of(version: str, kind: str) -> str:
    group, slash, _ = version.rpartition("/")
    if slash and group in _PREFIXED and kind != "DeleteOptions":
        return f"{group.partition('.')[0]}_{kind}"
    return kind
