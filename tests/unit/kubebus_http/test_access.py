"""Who may use a web service: decided at its node, by the number of the L4 peer and by tokens."""

from __future__ import annotations

import json

import pytest

from kubeedge.api.keys import DESIRED, REPORTED
from kubeedge.errors import NotFound, Unavailable
from kubeedge.kubebus.http import access as a
from kubeedge.kubebus.http.url import ServiceName
from kubeedge.publishing.servicetable.core import ServiceTable
from tests.unit.kubebus_http.test_publishing import mirror, status_and_error
from tests.unit.kubebus_http.world import World, get, scenario

TOKEN = "correct-horse-battery-staple"
GUARDED = a.Policy("token", (a.hashed("another-token-of-the-same"), a.hashed(TOKEN)))


@pytest.mark.parametrize(
    ("peer", "inside"),
    [((1, 5), True), ((255, 5), True), ((0, 5), False), ((256, 5), False), ((-1, 5), False)]
    + [(peer, False) for peer in ("", None, (), ("127.0.0.1", 5))],
)
def test_only_the_numbers_of_nodes_are_inside(peer: object, inside: bool) -> None:
    assert a.is_inside(peer, 255) is inside


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ([], a.AccessDecision.TOKEN_MISSING),
        ([("authorization", "Basic " + TOKEN)], a.AccessDecision.TOKEN_MISSING),
        ([("authorization", "Bearer")], a.AccessDecision.TOKEN_MISSING),
        ([("x-kubeedge-token", "")], a.AccessDecision.TOKEN_MISSING),
        ([("cookie", "token=" + TOKEN)], a.AccessDecision.TOKEN_MISSING),
        ([("authorization", "Bearer " + TOKEN[:-1])], a.AccessDecision.TOKEN_WRONG),
        ([("authorization", "Bearer " + a.hashed(TOKEN))], a.AccessDecision.TOKEN_WRONG),
        ([("x-kubeedge-token", "\xff" * 20)], a.AccessDecision.TOKEN_WRONG),
        ([("authorization", "bearer  " + TOKEN)], a.AccessDecision.ALLOWED),
        ([("x-kubeedge-token", TOKEN)], a.AccessDecision.ALLOWED),
        ([("authorization", "Bearer of-the-app"), ("x-kubeedge-token", TOKEN)], a.AccessDecision.ALLOWED),
    ],
)
@pytest.mark.parametrize("inside", [True, False])
def test_a_token_opens_and_nothing_else_does(
    headers: list[tuple[str, str]], verdict: a.AccessDecision, inside: bool
) -> None:
    assert a.decide(GUARDED, headers, inside=inside) is verdict


def test_a_service_without_tokens_is_open_to_nobody() -> None:
    for shown in ("", "x", a.hashed("")):
        assert a.decide(a.Policy("token"), [("x-kubeedge-token", shown)], inside=True) is not a.AccessDecision.ALLOWED


@pytest.mark.parametrize(
    ("value", "policy"),
    [
        ({"target": "x"}, a.PUBLIC),
        ({"access": "tenant"}, a.Policy("tenant")),
        ({"access": "token", "tokens": [a.hashed(TOKEN), 7, "short", "ä" * 64]}, a.Policy("token", (a.hashed(TOKEN),))),
        ({"access": "token"}, a.Policy("token")),
    ],
)
def test_a_published_value_says_who_may_use_it(value: dict[str, object], policy: a.Policy) -> None:
    table = ServiceTable()
    table.apply(f"{REPORTED}webservices/_/cam", json.dumps(value).encode())
    assert table.policy(ServiceName("cam")) == policy


def test_what_cannot_be_understood_is_for_nobody_and_changes_hold_at_once() -> None:
    table = ServiceTable()
    cam = ServiceName("cam")
    with pytest.raises(NotFound):
        table.policy(cam)
    for value in (
        {"access": "Tenant"},
        {"access": ["public"]},
        {"access": None},
        {"access": "token", "tokens": ["x"] * 17},
    ):
        table.apply(f"{DESIRED}webservices/_/cam", value)
        with pytest.raises(Unavailable, match="web service cam is published with"):
            table.policy(cam)
    table.apply(f"{REPORTED}webservices/_/cam", {"access": "tenant"})  # what was published here wins, with its access
    assert table.policy(cam).access == "tenant"
    table.apply(f"{REPORTED}webservices/_/cam", {})
    assert table.policy(cam).access == "public"
    table.apply(f"{REPORTED}webservices/_/cam", None)
    with pytest.raises(Unavailable):
        table.policy(cam)


def test_a_service_of_the_tenant_does_not_exist_outside_however_it_is() -> None:
    async def tell(world: World) -> None:
        await world.serve("here", mirror)
        world.services["dead"] = Unavailable("web service dead has no ready pod")
        world.policies |= {"here": a.Policy("tenant"), "dead": a.Policy("tenant")}
        world.policies |= {"oddd": Unavailable("nobody knows"), "none": NotFound("none")}
        absent = await world.ask(get("/t1/n1/none/"))
        assert status_and_error(absent) == (404, {"error": "this node has no web service none", "service": "none"})
        for name in ("here", "dead", "oddd"):  # names of one length, so that answers can be compared byte by byte
            for headers in ((), ("X-KubeEdge-Token: x",), ("X-Forwarded-For: 100.64.0.1",)):
                seen = await world.ask(get(f"/t1/n1/{name}/", *headers))
                assert seen == absent.replace(b"none", name.encode())

    scenario(tell)


def test_another_node_of_the_tenant_is_let_in() -> None:
    async def tell(world: World) -> None:
        world.caller = 7
        await world.serve("cam", mirror)
        world.policies |= {
            "cam": a.Policy("tenant"),
            "odd": Unavailable("web service odd is published with access 'x'"),
        }
        assert b" 200 " in await world.ask(get("/t1/n1/cam/"))
        status, body = status_and_error(await world.ask(get("/t1/n1/odd/")))
        assert (status, body["error"]) == (502, "web service odd is published with access 'x'")

    scenario(tell)


def test_a_token_is_taken_off_before_the_service_sees_the_request() -> None:
    async def tell(world: World) -> None:
        await world.serve("cam", mirror)
        world.policies["cam"] = GUARDED

        async def seen(*headers: str) -> dict[str, str]:
            answer = await world.ask(get("/t1/n1/cam/", *headers))
            assert answer.startswith(b"HTTP/1.1 200"), answer
            assert TOKEN.encode() not in answer
            return dict(json.loads(answer.partition(b"\r\n\r\n")[2])["headers"])

        assert "authorization" not in await seen(f"Authorization: Bearer {TOKEN}")
        both = await seen("Authorization: Bearer of-the-app", f"X-KubeEdge-Token: {TOKEN}")
        assert both["authorization"] == "Bearer of-the-app" and "x-kubeedge-token" not in both
        twice = await seen(f"Authorization: Bearer {TOKEN}", f"X-KubeEdge-Token: {TOKEN}")
        assert not {"authorization", "x-kubeedge-token"} & twice.keys()
        world.policies["cam"] = a.PUBLIC
        public = await seen("Authorization: Bearer of-the-app", "X-KubeEdge-Token: for-another-service")
        assert public["authorization"] == "Bearer of-the-app" and "x-kubeedge-token" not in public

    scenario(tell)


def test_without_its_token_a_service_says_how_to_ask(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")

    async def tell(world: World) -> None:
        await world.serve("cam", mirror)
        world.policies["cam"] = GUARDED
        for headers, challenge in (
            ((), 'Bearer realm="kubeedge"'),
            (("Authorization: Bearer wrong-and-secret",), 'Bearer realm="kubeedge", error="invalid_token"'),
        ):
            answer = await world.ask(get("/t1/n1/cam/", *headers))
            status, body = status_and_error(answer)
            assert status == 401 and body["service"] == "cam" and "token" in body["error"]
            assert f"www-authenticate: {challenge}\r\n".encode() in answer.lower().replace(b"bearer", b"Bearer")
        assert b" 200 " in await world.ask(get("/t1/n1/cam/", f"Authorization: Bearer {TOKEN}"))

    scenario(tell)
    assert TOKEN not in caplog.text and "wrong-and-secret" not in caplog.text


def test_a_refused_upload_is_refused_before_its_body_is_read() -> None:
    async def tell(world: World) -> None:
        await world.serve("cam", mirror)
        world.policies["cam"] = GUARDED
        async with world.client() as (reader, writer):
            writer.write(get("/t1/n1/cam/", "Content-Length: 1000000000", method="POST"))
            assert (await reader.readline()).startswith(b"HTTP/1.1 401")

    scenario(tell)
