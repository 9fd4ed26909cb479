"""Which route takes a request: the rules of Gateway API's specification, example by example."""

from __future__ import annotations

import random

import pytest

from kubeedge.api.names import TenantId
from kubeedge.gateway.model import WEB, ListenPoint, RouteEntry, RouteMatch, RouteRequest, RouteRule
from kubeedge.gateway.table import HostTable, RouteTable, covers, intersection
from tests.unit.gateway.objects import backend, compiled, gateway, path, route, rule, taken_by


@pytest.mark.parametrize(
    ("prefix", "target", "matches"),
    [
        ("/", "/anything/at/all", True),
        ("/abc", "/abc", True),
        ("/abc", "/abc/", True),
        ("/abc", "/abc/def", True),
        ("/abc", "/abcd", False),
        ("/abc", "/ABC", False),
        ("/abc/", "/abc", True),
        ("/abc/", "/abc/def", True),
        ("/abc", "/xyz/abc", False),
    ],
)
def test_a_prefix_matches_whole_elements(prefix: str, target: str, matches: bool) -> None:
    found = compiled(gateway(), route(rule(matches=[path(prefix)])))
    assert (taken_by(found, target) is not None) is matches


def test_an_exact_path_is_that_path() -> None:
    found = compiled(gateway(), route(rule(matches=[path("/abc", "Exact")])))
    assert taken_by(found, "/abc?q=1") and not taken_by(found, "/abc/") and not taken_by(found, "/abc/d")


def test_the_more_specific_match_comes_first_whatever_the_order_of_the_rules() -> None:
    """Exact path, longer prefix, method, more headers, more query parameters: in this order."""
    one, two = [{"name": "A", "value": "1"}], [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    rules = [
        rule("exact", matches=[path("/shop/cart", "Exact")]),
        rule("longer", matches=[path("/shop/cart")]),
        rule("method", matches=[path("/shop", method="GET")]),
        rule("two-headers", matches=[path("/shop", headers=two)]),
        rule("header-and-query", matches=[path("/shop", headers=one, queryParams=one)]),
        rule("header", matches=[path("/shop", headers=one)]),
        rule("query", matches=[path("/shop", queryParams=one)]),
        rule("prefix", matches=[path("/shop")]),
        rule("rest"),
    ]
    rng = random.Random(7)
    for _ in range(20):
        shuffled = rng.sample(rules, len(rules))
        found = compiled(gateway(), route(*shuffled))
        both = {"a": "1", "b": "2"}
        assert backend(taken_by(found, "/shop/cart?A=1", **both)) == "exact"
        assert backend(taken_by(found, "/shop/cart/1?A=1", **both)) == "longer"
        assert backend(taken_by(found, "/shop?A=1", **both)) == "method"
        assert backend(taken_by(found, "/shop?A=1", method="PUT", **both)) == "two-headers"
        assert backend(taken_by(found, "/shop?A=1", method="PUT", a="1")) == "header-and-query"
        assert backend(taken_by(found, "/shop", method="PUT", a="1")) == "header"
        assert backend(taken_by(found, "/shop?x&A=1&A=2", method="PUT")) == "query"
        assert backend(taken_by(found, "/shop?A=2", method="PUT", a="2")) == "prefix"
        assert backend(taken_by(found, "/elsewhere")) == "rest"


def test_between_equals_the_older_route_wins_then_its_name_then_the_order_of_rules() -> None:
    older = route(rule("older"), rule("second"), name="z")
    younger = route(rule("younger"), name="a")
    assert backend(taken_by(compiled(gateway(), younger, older))) == "older"
    younger["metadata"]["creationTimestamp"] = older["metadata"]["creationTimestamp"]
    assert backend(taken_by(compiled(gateway(), older, younger))) == "younger"


def test_the_more_specific_host_comes_first() -> None:
    hosts = {"a.shop.example": "exact", "*.shop.example": "longer", "*.example": "shorter"}
    found = compiled(gateway(), *(route(rule(s), name=s, hostnames=[h]) for h, s in hosts.items()), route(rule("any")))
    for host, wanted in (
        ("a.shop.example", "exact"),
        ("b.shop.example", "longer"),
        ("c.b.shop.example", "longer"),  # a wildcard stands for any number of labels
        ("shop.example", "shorter"),  # and for one at least
        ("example", "any"),
    ):
        assert backend(taken_by(found, host=host)) == wanted


def test_header_names_are_case_insensitive_and_the_first_of_equal_ones_counts() -> None:
    twice = [{"name": "Version", "value": "one"}, {"name": "version", "value": "two"}]
    found = compiled(gateway(), route(rule(matches=[path("/", headers=twice)])))
    assert taken_by(found, version="one") and not taken_by(found, version="two") and not taken_by(found, version="One")


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("*", "a.example", "a.example"),
        ("a.example", "a.example", "a.example"),
        ("a.example", "b.example", None),
        ("*.example", "a.example", "a.example"),
        ("a.b.example", "*.example", "a.b.example"),
        ("*.example", "*.b.example", "*.b.example"),
        ("*.example", "example", None),
        ("*.a.example", "*.b.example", None),
        ("*.ample", "a.example", None),
    ],
)
def test_what_two_host_names_have_in_common(one: str, other: str, both: str | None) -> None:
    assert intersection(one, other) == intersection(other, one) == both
    if both is not None:
        assert covers(one, both) and covers(other, both)


def test_a_host_of_one_tenant_is_never_answered_by_another() -> None:
    a, b = TenantId("a"), TenantId("b")
    entry = RouteEntry("*", "http", RouteMatch(), RouteRule("of b"))
    table = HostTable({"*.a.example": a, "*": b}, {a: RouteTable(), b: RouteTable([entry])})
    assert table.owner("www.a.example") == a and table.owner("elsewhere") is None and table.default == b
    assert table.find(a, RouteRequest("http", "www.a.example", "/")) is None
    assert table.names == ["*.a.example"]


def test_one_table_says_what_is_for_a_route_and_what_for_a_published_service() -> None:
    a, b = TenantId("a"), TenantId("b")
    entry = RouteEntry("shop.example", "http", RouteMatch(), RouteRule("of a"))
    every = RouteEntry("*", "http", RouteMatch("/own"), RouteRule("of b"))
    tables = {a: RouteTable([entry]), b: RouteTable([every])}
    table = HostTable({"shop.example": a, "*": b, "192.0.2.1": a}, tables, {"a", "b"})

    def found(host: str, path: str, at: ListenPoint = WEB) -> object:
        selected = table.select(RouteRequest("http", host, path, at=at))
        return selected and (selected.tenant, selected.entry and selected.entry.rule.name, selected.published)

    assert found("shop.example", "/a/n/web/") == ("a", "of a", False), (
        "a host that somebody has has no published service"
    )
    assert found("cloud.example", "/a/n/web/") == ("a", None, True)
    assert found("cloud.example", "/own/x") == ("b", "of b", False)
    assert found("cloud.example", "/c/n/web/") == ("", None, True), "which is not there, and is answered as such"
    assert found("cloud.example", "/a/n/web/", ListenPoint("", 8080)) is None, (
        "services are published at the web listener"
    )
    assert found("cloud.example", "/own", ListenPoint("", 8080)) is None, "the route is for another point"
    assert found("any.example", "/x", ListenPoint("192.0.2.1", 80)) == ("a", None, False)
    assert found("any.example", "/x", ListenPoint("192.0.2.2", 80)) is None
