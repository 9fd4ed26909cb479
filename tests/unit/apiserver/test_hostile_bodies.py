"""Bodies that are made to cost: they are refused, or worked on where they hold nobody up."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import pytest

from kubeedge.api import yaml_body
from kubeedge.api.names import TenantId
from kubeedge.api.status import BadRequest, TooLarge
from kubeedge.apiserver import core
from kubeedge.apiserver.offload import SMALL, Offload
from tests.unit.apiserver.test_http import DEFAULT, MERGE, Api, configmap, with_api

JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
YAML = "application/yaml"


@with_api
async def test_a_million_containers_and_a_page_of_empty_lists_are_too_large(api: Api) -> None:
    pod = b'{"metadata":{"name":"p"},"spec":{"containers":[' + b"{}," * 1_000_000 + b"{}]}}"
    status, answer = await api("POST", f"{DEFAULT}/pods", pod)
    assert status == 413 and answer["message"] == "the body has more than 20000 values"
    for yaml in (b"a: [" + b"[]," * 80_000 + b"1]", b"- x\n" * 60_000, b"? " * 120_000, b"---\n" * 60_000):
        status, answer = await api("POST", f"{DEFAULT}/configmaps", yaml, content_type=YAML)
        assert status in (400, 413), answer


@with_api
async def test_numbers_to_the_base_of_60_cost_no_more_than_text(api: Api) -> None:
    digits = "1:" * 100_000 + "1"
    body = f"metadata: {{name: y}}\ndata:\n  a: {digits}\n".encode()
    status, answer = await api("POST", f"{DEFAULT}/configmaps", body, content_type=YAML)
    assert status == 201 and answer["data"]["a"] == digits
    status, answer = await api("POST", f"{DEFAULT}/configmaps", f'a: !!int "{digits}"'.encode(), content_type=YAML)
    assert status == 400 and "tags" in answer["message"]


@with_api
async def test_commas_in_the_text_of_a_yaml_body_are_no_values(api: Api) -> None:
    body = b"metadata: {name: y}\ndata:\n  table: |\n" + b"    1,2,3,4,5,6,7,8\n" * 5000
    status, answer = await api("POST", f"{DEFAULT}/configmaps", body, content_type=YAML)
    assert status == 201, answer
    assert answer["data"]["table"].count(",") == 35_000


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r", "\u2028"])
def test_tag_directives_without_end_are_refused_before_the_parser_compares_them(newline: str) -> None:
    lines = [f"%TAG !{n:x}! x" for n in range(15_000)]
    with pytest.raises(TooLarge, match="directives"):
        yaml_body.decode_yaml(newline.join((*lines, "--- a: b")).encode())
    with pytest.raises(TooLarge, match="directives"):
        yaml_body.decode_yaml(newline.join(("\ufeff%YAML 1.1", *lines, "--- a: b")).encode())
    assert yaml_body.decode_yaml(newline.join(("%YAML 1.1", *lines[:3], "---", "a: b%", "")).encode()) == {"a": "b%"}


def test_a_yaml_body_is_utf_8() -> None:
    assert yaml_body.decode_yaml("\ufeffa: ä".encode()) == {"a": "ä"}
    with pytest.raises(BadRequest, match="UTF-8"):
        yaml_body.decode_yaml("\ufeffa: b".encode("utf-16-le"))


def test_without_libyaml_a_body_may_be_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    yaml_body._loader.cache_clear()
    try:
        assert yaml_body.decode_yaml(b"a: [1, 2]") == {"a": [1, 2]}
        with pytest.raises(yaml_body.TooLarge):
            yaml_body.decode_yaml(b"a: [" + b"[]," * 1000 + b"1]")
        with pytest.raises(yaml_body.TooLarge):
            yaml_body.decode_yaml(b"a: " + b"x" * 40_000)
    finally:
        yaml_body._loader.cache_clear()


@with_api
async def test_a_check_ends_with_its_32nd_finding(api: Api) -> None:
    looked_at = 0

    class Counted(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            nonlocal looked_at
            looked_at += key == "image"
            return super().get(key, default)

    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{}] * 9000}}
    status, answer = await api("POST", f"{DEFAULT}/pods", pod)
    assert status == 422 and len(answer["details"]["causes"]) == 32
    from kubeedge.api import findings, validation

    found = findings.collect(lambda: validation.pod({"containers": [Counted() for _ in range(9000)]}))
    assert len(found) == 32 and looked_at < 200
    status, answer = await api(
        "POST", "/api/v1/nodes", {"metadata": {"name": "n"}, "status": {"addresses": [1] * 9000}}
    )
    assert status == 422 and len(answer["details"]["causes"]) == 32


@with_api
async def test_long_keys_are_not_repeated_for_each_value_below_them(api: Api) -> None:
    volume = {"name": "v", "x" * 200_000: 1}
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}], "volumes": [volume] * 2}}
    status, answer = await api("POST", f"{DEFAULT}/pods?fieldValidation=Strict", pod)
    assert status == 400 and len(answer["message"]) < 4096


@with_api
async def test_lists_of_names_are_compared_without_their_square(api: Api) -> None:
    """9,000 against 9,000: 81 million comparisons took more than this test has."""
    held = {"metadata": {"name": "f", "finalizers": [f"a.b/{n}" for n in range(9000)]}}
    assert (await api("POST", f"{DEFAULT}/configmaps", held))[0] == 201
    await api("DELETE", f"{DEFAULT}/configmaps/f")
    other = {"metadata": {"finalizers": [f"c.d/{n}" for n in range(9000)]}}
    status, answer = await api("PATCH", f"{DEFAULT}/configmaps/f", other, content_type=MERGE)
    assert status == 422 and len(answer["message"]) < 4096
    retained = {"data": {"$retainKeys": [f"x{n}" for n in range(15_000)]}}
    assert (await api("PATCH", f"{DEFAULT}/configmaps/f", retained, content_type=STRATEGIC))[0] == 200


@with_api
async def test_patches_cannot_grow_an_object_beyond_what_may_be_sent(api: Api) -> None:
    await api("POST", f"{DEFAULT}/configmaps", configmap("c"))
    for part in range(3):
        status, answer = await api("PATCH", f"{DEFAULT}/configmaps/c", {f"more{part}": [[]] * 9000}, content_type=MERGE)
        assert status == (200 if part == 0 else 413), answer
    deeper = [{"op": "add", "path": "/x", "value": {}}] + [{"op": "copy", "from": "/x", "path": "/x" * 90}] * 5000
    status, answer = await api("PATCH", f"{DEFAULT}/configmaps/c", deeper, content_type=JSON_PATCH)
    assert status == 422, answer
    long = [{"op": "add", "path": "/a" * 1_000_000, "value": 1}]
    status, answer = await api("PATCH", f"{DEFAULT}/configmaps/c", long, content_type=JSON_PATCH)
    assert status == 422 and "more than 100 steps" in answer["message"]


@with_api
async def test_as_many_operations_as_kubernetes_takes_are_taken(api: Api) -> None:
    await api("POST", f"{DEFAULT}/configmaps", configmap("c"))
    operations = [{"op": "add", "path": f"/data/k{n % 10}", "value": str(n)} for n in range(10_000)]
    assert (await api("PATCH", f"{DEFAULT}/configmaps/c", operations, content_type=JSON_PATCH))[0] == 200


@pytest.mark.parametrize(
    "query", ["labelSelector=" + ",".join(["a!=b"] * 300), "fieldSelector=" + ",".join(["metadata.name!=b"] * 300)]
)
def test_a_selector_asks_each_object_a_bounded_number_of_questions(query: str) -> None:
    @with_api
    async def run(api: Api) -> None:
        status, answer = await api("GET", f"{DEFAULT}/configmaps?{query}")
        assert status == 400 and "more than 200" in answer["message"]

    run()


@with_api
async def test_large_work_is_done_in_one_thread_and_small_work_at_once(api: Api) -> None:
    offload = Offload()
    for registry in api.registries.values():
        registry._offload = offload
    seen: list[str] = []
    create = core.create

    def traced(*args: Any, **more: Any) -> Any:
        seen.append(threading.current_thread().name)
        return create(*args, **more)

    await api("GET", DEFAULT)
    core.create = traced
    try:
        large = configmap("large", a="x" * SMALL)
        assert (await api("POST", f"{DEFAULT}/configmaps", configmap("small")))[0] == 201
        assert (await api("POST", f"{DEFAULT}/configmaps", large))[0] == 201
    finally:
        core.create = create
    assert seen[0] == "MainThread" and seen[1].startswith("apiserver")
    status, listed = await api("GET", f"{DEFAULT}/configmaps")
    assert status == 200 and [item["metadata"]["name"] for item in listed["items"]] == ["large", "small"]


def test_the_thread_takes_the_tenants_in_turn_and_a_client_that_leaves_does_not_end_its_turn() -> None:
    async def scenario() -> None:
        offload, order, go = Offload(), [], threading.Event()

        def work(name: str) -> None:
            go.wait(10)
            order.append(name)

        def ask(tenant: str, n: int) -> asyncio.Task[None]:
            run = offload.run(TenantId(tenant), SMALL + 1, lambda: work(f"{tenant}{n}"))
            return asyncio.create_task(run)

        tasks = [ask("a", n) for n in range(4)]
        await asyncio.sleep(0)
        tasks += [ask("b", 0)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.gather(tasks[0], return_exceptions=True)
        assert order == []
        go.set()
        await asyncio.gather(*tasks[1:])
        # a machine may be so slow that the first one cost "a" a rest
        assert order in (["a0", "a1", "b0", "a2", "a3"], ["a0", "b0", "a1", "a2", "a3"])

    asyncio.run(scenario())


def test_a_tenant_rests_after_long_work_and_the_others_do_not_wait_for_it() -> None:
    async def scenario() -> None:
        offload, order = Offload(), []

        def work(name: str, seconds: float) -> None:
            time.sleep(seconds)
            order.append(name)

        def ask(tenant: str, n: int, seconds: float) -> asyncio.Task[None]:
            run = offload.run(TenantId(tenant), SMALL + 1, lambda: work(f"{tenant}{n}", seconds))
            return asyncio.create_task(run)

        first = [ask("a", 0, 0.03), ask("a", 1, 0.0)]
        await asyncio.sleep(0)
        await asyncio.gather(*first, ask("b", 0, 0.0))
        assert order == ["a0", "b0", "a1"]
        order.clear()
        # work that is short each time is long in the sum
        begun = time.monotonic()
        await asyncio.gather(*(ask("c", n, 0.004) for n in range(20)))
        assert time.monotonic() - begun > 3 * 20 * 0.004 - 0.03

    asyncio.run(scenario())


@with_api
async def test_a_long_list_is_the_same_in_one_piece_and_in_pages(api: Api) -> None:
    for n in range(60):
        await api("POST", f"{DEFAULT}/configmaps", configmap(f"c{n:02}", a="x" * (200_000 if n % 7 == 0 else 1)))
    status, whole = await api("GET", f"{DEFAULT}/configmaps")
    names = [item["metadata"]["name"] for item in whole["items"]]
    assert status == 200 and names == [f"c{n:02}" for n in range(60)]
    paged, token = [], ""
    while True:
        _, page = await api("GET", f"{DEFAULT}/configmaps?limit=7&continue={token}")
        paged += [item["metadata"]["name"] for item in page["items"]]
        if not (token := page["metadata"].get("continue", "")):
            break
    assert paged == names
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    _, shown = await api("GET", f"{DEFAULT}/configmaps", accept=table)
    assert shown["kind"] == "Table" and len(shown["rows"]) == 60 and json.dumps(shown)
