"""A version that is served beside the stored one, over HTTP: every verb takes and gives it, and the object is one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubeedge.api.conversions import fingerprint
from kubeedge.api.devices_v1alpha2 import DEVICE_CONVERSION
from kubeedge.api.names import TenantId
from kubeedge.api.resources import Resources, version_priority
from kubeedge.apiserver.builtin import BUILT_IN
from kubeedge.apiserver.devices import ROWS
from kubeedge.apiserver.registry import Registry
from tests.unit.apiserver.test_http import MERGE, Api, with_api

OLD, NEW = (f"/apis/devices.kubeedge.io/{version}/namespaces/default/devices" for version in ("v1alpha2", "v1beta1"))
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def device(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "devices.kubeedge.io/v1alpha2",
        "kind": "Device",
        "metadata": {"name": "d"},
        "spec": {
            "deviceModelRef": {"name": "m"},
            "data": {"dataTopic": "x"},
            "propertyVisitors": [{"propertyName": "t", "collectCycle": 5_000_001}],
            **spec,
        },
        "status": {"twins": [{"propertyName": "t", "desired": {"value": "1"}, "reported": {"value": "9"}}]},
    }


def serving(api: Api) -> None:
    for tenant in api.registries:
        api.registries[tenant] = Registry(api.store, tenant, served=Resources((*BUILT_IN, *ROWS)))


@with_api
async def test_written_in_one_version_and_read_in_both(api: Api) -> None:
    serving(api)
    status, made = await api("POST", OLD, device())
    assert status == 201 and made["spec"] == device()["spec"] and made["apiVersion"].endswith("v1alpha2")
    _, new = await api("GET", f"{NEW}/d")
    assert new["spec"]["properties"] == [{"name": "t", "collectCycle": 5, "desired": {"value": "1"}}]
    assert "status" not in new  # nodes write what is reported
    _, old = await api("GET", f"{OLD}/d")
    assert old["spec"] == device()["spec"] and old["metadata"]["uid"] == new["metadata"]["uid"]
    assert old["status"] == {"twins": [{"propertyName": "t", "desired": {"value": "1"}}]}
    # what the other version alone can say survives a change by a client that has never heard of it
    push = {"spec": {"properties": [{"name": "t", "pushMethod": {"http": {"hostName": "h"}}}], "nodeName": "n"}}
    assert (await api("PATCH", f"{NEW}/d", push, content_type=MERGE))[0] == 200
    _, old = await api("GET", f"{OLD}/d")
    old["spec"]["deviceModelRef"] = {"name": "m"}
    old["metadata"]["labels"] = {"a": "b"}
    assert (await api("PUT", f"{OLD}/d", old))[0] == 200
    _, new = await api("GET", f"{NEW}/d")
    assert new["spec"]["properties"] == push["spec"]["properties"] and new["metadata"]["labels"] == {"a": "b"}
    stale = {**old, "metadata": {**old["metadata"], "labels": {}}}
    assert (await api("PUT", f"{OLD}/d", stale))[0] == 409


@with_api
async def test_patches_apply_lists_and_tables(api: Api) -> None:
    serving(api)
    status, made = await api("PATCH", f"{OLD}/d?fieldManager=me", device(), content_type="application/apply-patch+yaml")
    assert status == 201 and made["spec"]["data"] == {"dataTopic": "x"}
    change = [{"op": "replace", "path": "/spec/data/dataTopic", "value": "y"}]
    assert (await api("PATCH", f"{OLD}/d", change, content_type="application/json-patch+json"))[0] == 200
    status, again = await api(
        "PATCH", f"{OLD}/d?fieldManager=me", device(), content_type="application/apply-patch+yaml"
    )
    assert status == 200 and again["spec"]["data"] == {"dataTopic": "x"}
    _, listed = await api("GET", OLD)
    assert listed["apiVersion"].endswith("v1alpha2") and listed["items"][0]["spec"] == device()["spec"]
    _, limited = await api("GET", f"{OLD}?limit=1")
    assert limited["items"] == listed["items"]
    for target in (OLD, f"{OLD}/d"):
        _, table = await api("GET", f"{target}?includeObject=Object", accept=TABLE)
        (row,) = table["rows"]
        assert row["cells"][:2] == ["d", "m"] and row["object"]["spec"] == device()["spec"]
    assert (await api("DELETE", f"{OLD}/d"))[0] == 200
    assert (await api("GET", f"{NEW}/d"))[0] == 404


@with_api
async def test_a_watch_gives_the_version_that_it_asks_for(api: Api) -> None:
    serving(api)
    await api("POST", OLD, device())
    versions = []
    for target in (OLD, NEW):
        answer = await api.raw("GET", f"{target}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true")
        stream = answer.body
        assert not isinstance(stream, bytes)
        events = [json.loads(await anext(stream)) for _ in range(2)]  # type: ignore[call-overload]
        await stream.aclose()  # type: ignore[attr-defined]
        assert [event["type"] for event in events] == ["ADDED", "BOOKMARK"]
        versions.append({event["object"]["apiVersion"] for event in events})
    assert versions == [{"devices.kubeedge.io/v1alpha2"}, {"devices.kubeedge.io/v1beta1"}]


@with_api
async def test_types_and_unknown_fields_are_those_of_the_version(api: Api) -> None:
    serving(api)
    status, answer = await api("POST", OLD, device(propertyVisitors=[{"propertyName": 7}]))
    assert status == 422 and "spec.propertyVisitors[0].propertyName" in json.dumps(answer)
    status, answer = await api("POST", f"{OLD}?fieldValidation=Strict", device(nodeName="n"))
    assert status == 400 and 'unknown field \\"spec.nodeName\\"' in json.dumps(answer)
    assert (await api("POST", OLD, {**device(), "apiVersion": "devices.kubeedge.io/v1beta1"}))[0] == 400
    status, answer = await api("POST", OLD, device(deviceModelRef={}))
    assert status == 422


@with_api
async def test_the_stored_version_is_the_preferred_one(api: Api) -> None:
    serving(api)
    _, group = await api("GET", "/apis/devices.kubeedge.io")
    assert group["preferredVersion"]["version"] == "v1beta1" and len(group["versions"]) == 2
    _, found = await api("GET", "/apis/devices.kubeedge.io/v1alpha2")
    assert {resource["name"] for resource in found["resources"]} == {"devices", "devicemodels"}
    resources = await api.registries[TenantId("a")].resources()
    assert len({resource.plural for resource in resources}) == len(resources)


def test_versions_in_the_order_of_kubernetes() -> None:
    names = ["v1", "v2", "v1beta1", "v10", "v2beta1", "v1alpha2", "v1alpha10", "foo1", "v1beta2", "v01"]
    assert sorted(names, key=version_priority) == [
        "v10", "v2", "v1", "v2beta1", "v1beta2", "v1beta1", "v1alpha10", "v1alpha2", "foo1", "v01"
    ]  # fmt: skip


OTHER_FIELDS = [
    '[[["metadata"],null,{"name":"other","namespace":"kube-system"}]]',
    '[[["metadata"],null,5]]',
    '[[["kind"],null,"Pod"]]',
    '[[["apiVersion"],null,"v1"]]',
    '[[["bogus"],null,{"a":1}]]',
    '[[["spec","x"],null,%s]]' % ("[" * 900 + "]" * 900),
    '[[["spec","x"],null,1e999]]',
    '[[["spec","x"],null,"\\ud800"]]',
    '[[["spec","x"],null,%s]]' % ("9" * 5000),
    "[" * 100_000,
]


@pytest.mark.parametrize("fields", OTHER_FIELDS)
def test_an_annotation_with_what_the_other_version_says_is_about_spec_and_status_alone(fields: str) -> None:
    """Whoever may write an object may write its annotations: neither its name nor its kind is changed by them, and it spoils no list."""

    @with_api
    async def test(api: Api) -> None:
        serving(api)
        plain = device()
        written = {**plain, "metadata": {"name": "d", "annotations": {"devices.kubeedge.io/v1beta1-fields": fields}}}
        status, made = await api("POST", OLD, written)
        assert status == 201 and made["metadata"]["name"] == "d" and made["spec"] == plain["spec"]
        _, stored = await api("GET", f"{NEW}/d")
        assert stored.keys() == {"kind", "apiVersion", "metadata", "spec"}
        note = {"metadata": {"annotations": {"devices.kubeedge.io/v1alpha2-fields": fields}}}
        assert (await api("PATCH", f"{NEW}/d", note, content_type=MERGE))[0] == 200
        for target in (OLD, f"{OLD}?limit=1", f"{OLD}/d"):
            status, found = await api("GET", target)
            shown = found if target.endswith("/d") else found["items"][0]
            assert status == 200 and (shown["kind"], shown["metadata"]["name"]) == ("Device", "d")
            assert shown.keys() <= {"kind", "apiVersion", "metadata", "spec", "status"}
        assert (await api("PATCH", f"{OLD}/d", {"metadata": {"labels": {"a": "b"}}}, content_type=MERGE))[0] == 200

    test()


@with_api
async def test_an_annotation_that_makes_other_types_of_an_object_spoils_no_list(api: Api) -> None:
    serving(api)
    await api("POST", OLD, device())
    _, stored = await api("GET", f"{NEW}/d")
    before = DEVICE_CONVERSION.lossy.from_stored({"spec": stored["spec"]})["spec"]
    wrong = [[["spec"], fingerprint(before), 5]]
    note = {"metadata": {"annotations": {"devices.kubeedge.io/v1alpha2-fields": json.dumps(wrong)}}}
    assert (await api("PATCH", f"{NEW}/d", note, content_type=MERGE))[0] == 200
    _, listed = await api("GET", OLD)
    assert listed["items"][0]["spec"] == before
