"""What `kubectl explain` says: every type and field that is served has a description, and none is of what is not there."""

from __future__ import annotations

import json
import sys

from kubeedge.api import schema
from kubeedge.api.resources import Resources
from kubeedge.apiserver import descriptions, devices, gateways, openapi, rules
from kubeedge.apiserver.builtin import BUILT_IN

ROWS = (*BUILT_IN, *devices.ROWS, *gateways.ROWS, *rules.ROWS)


def documents() -> dict[str, bytes]:
    found = {}
    for group, version in Resources(ROWS).group_versions():
        data = openapi.version_3(ROWS, group, version)
        assert data is not None
        found[f"{group}/{version}"] = data
    return found


def test_everything_that_is_served_is_described() -> None:
    texts, missing = descriptions.read(), []
    for kind, fields in schema.types().items():
        if kind == "Unknown":
            continue
        missing += [] if texts.of_type(kind) else [kind]
        missing += [f"{kind}.{field}" for field in fields if not texts.of_field(kind, field)]
    assert missing == []


def test_no_description_is_of_what_is_not_there() -> None:
    types = schema.types()
    anywhere = {field for fields in types.values() for field in fields}
    for kind, field in descriptions.read():
        assert kind == "*" or kind in types, kind
        assert not field or field in (anywhere if kind == "*" else types[kind]), f"{kind}.{field}"


def test_a_document_has_them_where_kubectl_looks() -> None:
    schemas = json.loads(documents()["/v1"])["components"]["schemas"]
    container = schemas["Container"]
    assert container["description"].startswith("A process")
    assert (
        container["properties"]["image"]["description"].startswith("The image")
        and container["properties"]["image"]["type"] == "string"
    )
    probe = container["properties"]["livenessProbe"]
    assert probe["allOf"] == [{"$ref": "#/components/schemas/Probe"}] and "restarted" in probe["description"]
    assert schemas["PodSpec"]["properties"]["containers"]["items"] == {"$ref": "#/components/schemas/Container"}


def test_they_do_not_stay_in_memory() -> None:
    """What is kept of a document is its packed form, a tenth of it."""
    plain = sum(len(data) for data in documents().values())
    kept = [openapi._version_3(ROWS, group, version) for group, version in Resources(ROWS).group_versions()]
    assert sum(sys.getsizeof(data) for data in kept) < plain / 5 and plain > 100_000
