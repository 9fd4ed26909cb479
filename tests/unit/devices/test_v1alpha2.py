"""v1alpha2 and v1beta1 of devices.kubeedge.io: either way and back, nothing is lost; and an API that serves both."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeedge.api import conversions, devices_v1alpha2, meta, schema
from kubeedge.api.names import Object
from kubeedge.apiserver.devices import ROWS
from kubeedge_cloud.devicecontroller.__main__ import converted

MANIFESTS = Path(__file__).parent / "manifests"
CONVERSIONS = {
    "Device": devices_v1alpha2.DEVICE_CONVERSION,
    "DeviceModel": devices_v1alpha2.DEVICEMODEL_CONVERSION,
}
OLD, NEW = (
    [
        pytest.param(obj, id=f"{obj['kind']}-{obj['metadata']['name']}")
        for obj in yaml.safe_load_all((MANIFESTS / name).read_text())
    ]
    for name in ("v1alpha2.yaml", "v1beta1.yaml")
)
_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.sampled_from(["", "a", "b", "modbus"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(st.fixed_dictionaries({"name": st.sampled_from("abcd")}, optional={"x": inner}), max_size=4)
        | st.dictionaries(st.sampled_from(["name", "x", "a", "b"]), inner, max_size=4)
    ),
    max_leaves=12,
)


def parts(obj: Object) -> Object:
    return {key: obj[key] for key in ("spec", "status") if key in obj}


@pytest.mark.parametrize("obj", OLD)
def test_an_old_object_comes_back_as_it_was(obj: Object) -> None:
    conversion = CONVERSIONS[obj["kind"]]
    before = copy.deepcopy(obj)
    stored = conversion.to_stored(obj)
    assert (
        stored["apiVersion"] == "devices.kubeedge.io/v1beta1" and stored["metadata"]["name"] == obj["metadata"]["name"]
    )
    assert schema.check(obj["kind"], stored) == ([], [])
    assert schema.check(f"{obj['kind']}V1alpha2", obj) == ([], [])
    assert conversion.from_stored(stored) == obj == before


@pytest.mark.parametrize("obj", NEW)
def test_a_new_object_comes_back_as_it_was(obj: Object) -> None:
    conversion = CONVERSIONS[obj["kind"]]
    assert schema.check(obj["kind"], obj) == ([], [])
    old = conversion.from_stored(obj)
    assert schema.check(f"{obj['kind']}V1alpha2", old) == ([], [])
    assert conversion.to_stored(old) == obj


def stored_of(name: str) -> Object:
    obj = next(param.values[0] for param in OLD if param.values[0]["metadata"]["name"] == name)
    return CONVERSIONS[obj["kind"]].to_stored(obj)  # type: ignore[index]


def test_what_both_can_say_is_where_the_other_looks_for_it() -> None:
    boiler = stored_of("boiler-1")["spec"]
    assert boiler["nodeName"] == "edge1"
    assert boiler["protocol"]["protocolName"] == "modbus" and boiler["protocol"]["configData"]["slaveID"] == 1
    first, second, third = boiler["properties"]
    assert first["desired"]["value"] == "30" and (first["collectCycle"], first["reportCycle"]) == (500, 1000)
    assert first["visitors"]["configData"]["register"] == "HoldingRegister"
    assert second["name"] == "enabled" and third == {"name": "label", "desired": {"value": "off"}}
    meter = stored_of("meter")["spec"]["protocol"]
    assert meter["configData"] == {"slaveID": 3, "host": "192.168.1.20", "port": 502, "common": {"commType": "TCP"}}
    model = stored_of("boiler")["spec"]["properties"]
    assert model[0] == {
        "name": "temperature",
        "description": "of the water",
        "type": "INT",
        "accessMode": "ReadWrite",
        "minimum": "-5",
        "maximum": "100",
        "unit": "degree celsius",
    }


def test_what_a_client_of_the_other_version_changes_counts() -> None:
    conversion = CONVERSIONS["Device"]
    stored = stored_of("boiler-1")
    stored["spec"]["properties"][0] |= {
        "reportCycle": 7000,
        "desired": {"value": "31"},
    }  # its odd nanosecond is history
    del stored["spec"]["properties"][1]
    old = conversion.from_stored(stored)
    assert [visitor["propertyName"] for visitor in old["spec"]["propertyVisitors"]] == ["temperature"]
    assert old["spec"]["propertyVisitors"][0]["reportCycle"] == 7_000_000_000
    assert old["status"]["twins"][0]["desired"]["value"] == "31"
    assert old["spec"]["data"]["dataTopic"] == "$ke/events/device/+/data/update"
    assert conversion.to_stored(old)["spec"] == stored["spec"]


def test_annotations_by_others_are_none_of_ours() -> None:
    conversion = CONVERSIONS["Device"]
    for text in ("", "{", "[1]", '[[["spec"]]]', "[[[],null]]", '[[["a"],7,1]]', "[" * 100_000, None):
        obj: Object = {"metadata": {"annotations": {conversion.annotation: text}}, "spec": {}}
        assert parts(conversion.from_stored(obj)) == {"spec": {}}


@settings(max_examples=400, deadline=None)
@given(_JSON, _JSON)
def test_differences_make_the_one_of_the_other(one: Any, other: Any) -> None:
    first, second = {"spec": one}, {"spec": other}
    assert conversions.fingerprint(
        conversions.apply(first, conversions.differences(first, second))
    ) == conversions.fingerprint(second)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(CONVERSIONS)), st.data())
def test_any_object_comes_back_as_it_was(kind: str, data: st.DataObject) -> None:
    """Fields that there are, with values of any type and shape."""
    conversion = CONVERSIONS[kind]
    for schema_name, there, back in (
        (kind, conversion.from_stored, conversion.to_stored),
        (f"{kind}V1alpha2", conversion.to_stored, conversion.from_stored),
    ):
        obj = {"kind": kind, "metadata": {"name": "x"}, **data.draw(_objects(schema_name))}
        obj = {key: value for key, value in obj.items() if value is not None}
        result = back(there(obj))
        assert result["metadata"] == {"name": "x"}
        assert conversions.fingerprint(parts(result)) == conversions.fingerprint(parts(obj))


def _objects(kind: str) -> st.SearchStrategy[Any]:
    fields = schema.types()[kind]
    return st.fixed_dictionaries({}, optional={n: _values(f) for n, f in fields.items() if n in ("spec", "status")})


def _values(field: schema.Field, depth: int = 0) -> st.SearchStrategy[Any]:
    plain: dict[str, st.SearchStrategy[Any]] = {
        "str": st.sampled_from(["", "a", "edge1", "modbus", "1", "INT", "ReadOnly"]),
        "time": st.just("2026-01-01T00:00:00Z"),
        "int": st.integers(-3, 2_000_000),
        "long": st.integers(-3, 2_000_000),
        "num": st.integers(-3, 3) | st.floats(-2, 2),
        "bool": st.booleans(),
        "any": _JSON,
    }
    one = plain.get(field.type)
    if one is None:
        inner = schema.types().get(field.type, {})
        one = st.fixed_dictionaries({}, optional={n: _values(f, depth + 1) for n, f in inner.items()}) | _JSON
    match field.shape:
        case "list":
            return st.lists(one, max_size=3)
        case "map":
            return st.dictionaries(st.sampled_from("ab"), one, max_size=2)
    return one


def test_both_versions_are_rows_of_one_resource() -> None:
    stored = {row.stored for row in ROWS}
    assert {resource.version for resource in stored} == {"v1beta1"} and len(ROWS) == 4 and len(stored) == 2
    assert meta.name_of(stored_of("own")) == "own"


def test_manifests_are_converted_for_a_cluster_that_serves_one_version() -> None:
    text = (MANIFESTS / "v1alpha2.yaml").read_text() + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n"
    found = list(yaml.safe_load_all(converted(text)))
    assert {obj["apiVersion"] for obj in found} == {"devices.kubeedge.io/v1beta1", "v1"}
    assert found[1] == stored_of("boiler-1")
