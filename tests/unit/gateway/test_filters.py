"""Filters of a rule: the tables of Gateway API's specification."""

from __future__ import annotations

import pytest

from kubeedge.gateway import filters
from kubeedge.gateway.model import HeaderChange, PathChange, RedirectAnswer, RouteMatch, RouteRequest, UrlChange


@pytest.mark.parametrize(
    ("path", "prefix", "replacement", "result"),
    [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/bar", "", "/xyz", "/xyz/bar"),
        ("/", "", "/xyz", "/xyz/"),
    ],
)
def test_a_replaced_prefix(path: str, prefix: str, replacement: str, result: str) -> None:
    assert filters.path_of(PathChange(replacement, prefix=True), RouteMatch(prefix), path) == result


def test_a_rewrite_keeps_the_query() -> None:
    request = RouteRequest("http", "a", "/v1/x", "q=1&r=%20")
    change = UrlChange("b.example", PathChange("/all"))
    assert filters.rewritten(change, RouteMatch("/v1"), request) == ("/all?q=1&r=%20", "b.example")
    assert filters.rewritten(None, RouteMatch("/v1"), request) == ("/v1/x?q=1&r=%20", "")


@pytest.mark.parametrize(
    ("redirect", "scheme", "authority", "result"),
    [
        (RedirectAnswer(), "http", "a.example:8080", "http://a.example:8080/p?q"),
        (RedirectAnswer(scheme="https"), "http", "a.example:8080", "https://a.example/p?q"),
        (RedirectAnswer(scheme="https", port=8443), "http", "a.example", "https://a.example:8443/p?q"),
        (RedirectAnswer(port=80), "http", "a.example:8080", "http://a.example/p?q"),
        (RedirectAnswer(hostname="b.example"), "https", "a.example", "https://b.example/p?q"),
        (RedirectAnswer(path=PathChange("/other")), "http", "[::1]:80", "http://[::1]/other?q"),
    ],
)
def test_where_a_redirect_leads(redirect: RedirectAnswer, scheme: str, authority: str, result: str) -> None:
    assert filters.location(redirect, RouteMatch(), RouteRequest(scheme, "a", "/p", "q"), authority) == result


def test_headers_are_set_added_and_removed() -> None:
    change = HeaderChange((("x", "new"), ("y", "made")), (("z", "2"), ("n", "1")), frozenset(("gone",)))
    headers = [("x", "1"), ("x", "2"), ("gone", "1"), ("z", "1"), ("kept", "k")]
    assert filters.changed(headers, change) == [("z", "1,2"), ("kept", "k"), ("x", "new"), ("y", "made"), ("n", "1")]
    assert filters.changed(headers, None) == headers


def test_no_filter_touches_the_framing_of_a_message() -> None:
    change = HeaderChange((("content-length", "0"),), (("transfer-encoding", "chunked"),), frozenset(("connection",)))
    headers = [("content-length", "5"), ("connection", "upgrade")]
    assert filters.changed(headers, change) == headers


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("A.Example", "a.example"),
        ("a:80", "a"),
        ("a.:80", "a"),
        ("[::1]:80", "[::1]"),
        ("", ""),
        ("a:", "a"),
        ("a:x", "a:x"),
        ("a." * 200, ""),
    ],
)
def test_the_host_of_an_authority(authority: str, host: str) -> None:
    assert filters.host_of(authority) == host
