"""Claims and volumes of a user's cluster: what a node is told of them, and how often the API is asked."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from kubeedge.api.client import ForwardingClient, Resource
from kubeedge.api.names import Object
from kubeedge.api.resources import PERSISTENTVOLUMECLAIMS
from kubeedge.api.status import BadRequest, Forbidden, ObjectNotFound
from kubeedge.api.volumes import attachment_name
from kubeedge_cloud.edgecontroller import claims
from kubeedge_cloud.edgecontroller.polled import SETTLED, Polled
from tests.kit import virtual_time


def made(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web", "namespace": "shop"}, "spec": spec}


CSI = {"driver": "d", "volumeHandle": "h", "nodePublishSecretRef": {"namespace": "drivers", "name": "s"}}
CLAIM = {
    "metadata": {"name": "data", "namespace": "shop", "uid": "c1", "annotations": {"a": "b"}, "resourceVersion": "5"},
    "spec": {"volumeName": "pv1", "resources": {"requests": {"storage": "1Gi"}}},
    "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "conditions": []},
}
VOLUME = {
    "metadata": {"name": "pv1", "uid": "v1", "annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}},
    "spec": {"csi": CSI, "claimRef": {"namespace": "shop", "name": "data", "uid": "c1", "resourceVersion": "4"}},
    "status": {"phase": "Bound"},
}
SECRET = {"metadata": {"name": "s", "namespace": "drivers"}, "data": {"k": "dg=="}}


def test_references_lead_from_the_pod_to_the_volume_and_its_secrets() -> None:
    pod = made(
        volumes=[
            {"name": "a", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "b", "ephemeral": {"volumeClaimTemplate": {}}},
            {"name": "c", "persistentVolumeClaim": None},
            {"name": "d", "emptyDir": {}},
            {"name": "e", "csi": {"driver": "inline", "nodePublishSecretRef": {"name": "own"}}},
        ]
    )
    named = list(claims.of_pod(pod))
    assert [name for _, _, name in named] == ["data", "web-b", "", "inline", "own"]
    objects: dict[tuple[str, str, str], Object] = {}

    def found() -> set[str]:
        wanted = claims.behind(named, lambda *key: objects.get(key), "edge1")
        return {name for _, _, name in wanted} - {"data", "web-b", "", "inline", "own"}

    assert found() == set()
    objects[claims.CLAIMS, "shop", "data"] = CLAIM
    assert found() == {"pv1"}
    objects[claims.VOLUMES, "", "pv1"] = VOLUME
    assert found() == {"pv1", "s", "d", attachment_name("h", "d", "edge1")}
    objects[claims.DRIVERS, "", "d"] = {"spec": {"attachRequired": False}}
    assert found() == {"pv1", "s", "d"}


def test_a_node_gets_what_it_needs_and_no_more() -> None:
    objects = {
        (claims.CLAIMS, "shop", "data"): CLAIM,
        (claims.VOLUMES, "", "pv1"): VOLUME,
        ("secrets", "drivers", "s"): SECRET,
        ("secrets", "shop", "other"): SECRET,
    }
    rows = claims.rows(objects, {("secrets", "drivers", "s")})
    assert set(rows) == {"persistentvolumeclaims/shop/data", "persistentvolumes/_/pv1", "secrets/drivers/s"}
    claim, volume = (json.loads(rows[key]) for key in sorted(rows)[:2])
    assert claim["metadata"] == {"name": "data", "namespace": "shop", "uid": "c1"}
    assert claim["status"] == {"phase": "Bound", "capacity": {"storage": "1Gi"}}
    assert volume["spec"] == {"csi": CSI, "claimRef": {"namespace": "shop", "name": "data", "uid": "c1"}}
    touched = {**CLAIM, "metadata": {**CLAIM["metadata"], "resourceVersion": "6"}}  # type: ignore[dict-item]
    assert claims.claim(touched) == claims.claim(CLAIM)


class Api(ForwardingClient):
    """Answers as it is told, and counts."""

    def __init__(self, answers: list[Object | Exception]) -> None:
        self.answers, self.asked = answers, list[float]()

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        self.asked.append(asyncio.get_running_loop().time())
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_claim_is_asked_for_often_until_it_is_bound_and_seldom_then() -> None:
    pending = {**CLAIM, "metadata": {**CLAIM["metadata"], "resourceVersion": "1"}, "status": {"phase": "Pending"}}  # type: ignore[dict-item]
    missing = ObjectNotFound.of(PERSISTENTVOLUMECLAIMS, "data")
    api = Api([Forbidden.of(PERSISTENTVOLUMECLAIMS, "data", "no relationship found"), missing, pending, pending, CLAIM])
    seen: list[tuple[bool, bool]] = []

    async def run() -> None:
        polled = Polled(api, PERSISTENTVOLUMECLAIMS, "shop", "data", claims.is_settled)
        polled.on_change(lambda before, after: seen.append((before is not None, after is not None)))
        task = asyncio.create_task(polled.run())
        await asyncio.sleep(0.1)
        assert not polled.synced.is_set()  # a refusal says nothing of what there is
        await asyncio.sleep(5)
        assert polled.synced.is_set() and polled.get("shop", "data") == CLAIM
        await asyncio.sleep(10 * SETTLED)
        task.cancel()

    virtual_time.run(run())
    assert seen == [(False, True), (True, True)]
    bound = [later - sooner for sooner, later in zip(api.asked[4:], api.asked[5:], strict=False)]
    assert api.asked[4] < 5 and 9 <= len(bound) <= 21
    assert all(SETTLED / 2 <= delay <= SETTLED for delay in bound)


def test_a_claim_whose_name_the_api_does_not_look_for_ends_nothing() -> None:
    """Any text may be the name of a pod's claim; the task is in a group with those of all nodes of the tenant."""
    api = Api([BadRequest("'..' is not the name of an object"), CLAIM])

    async def run() -> None:
        polled = Polled(api, PERSISTENTVOLUMECLAIMS, "shop", "..", claims.is_settled)
        task = asyncio.create_task(polled.run())
        await asyncio.sleep(5)
        assert polled.get("shop", "..") == CLAIM and not task.done()
        task.cancel()

    virtual_time.run(run())
