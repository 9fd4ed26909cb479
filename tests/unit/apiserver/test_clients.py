"""What the clients of today expect of an answer, beyond what older ones did."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.test_http import DEFAULT, MERGE, Api, configmap, with_api


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/apis/batch/v1/namespaces/default/jobs"),
        ("PATCH", f"{DEFAULT}/pods/p/ephemeralcontainers"),
        ("GET", "/nothing"),
        ("GET", f"{DEFAULT}/pods/p"),
        ("PUT", f"{DEFAULT}/pods"),
        ("POST", f"{DEFAULT}/pods/p/exec"),
    ],
)
def test_every_failure_has_details_for_kubectl_looks_into_them_without_asking(method: str, path: str) -> None:
    @with_api
    async def run(api: Api) -> None:
        status, answer = await api(method, path, {}, content_type=MERGE)
        assert status in (404, 405), answer
        assert isinstance(answer["details"], dict)

    run()


@with_api
async def test_a_pod_that_is_deleted_at_once_is_answered_as_it_was(api: Api) -> None:
    def pod(name: str) -> dict[str, Any]:
        return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "n"}}

    _, made = await api("POST", f"{DEFAULT}/pods", pod("p"))
    status, answer = await api("DELETE", f"{DEFAULT}/pods/p?gracePeriodSeconds=0")
    assert status == 200 and answer["kind"] == "Pod" and answer["metadata"]["uid"] == made["metadata"]["uid"]
    assert (await api("GET", f"{DEFAULT}/pods/p"))[0] == 404
    await api("POST", f"{DEFAULT}/configmaps", configmap("c"))
    status, answer = await api("DELETE", f"{DEFAULT}/configmaps/c")
    assert status == 200 and answer["kind"] == "Status" and answer["status"] == "Success"
