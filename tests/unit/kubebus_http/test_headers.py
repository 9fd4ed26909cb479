"""Which headers cross a proxy, and how they change."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.kubebus.http import headers as h
from kubeedge.kubebus.http.url import parse


def test_what_belongs_to_one_hop_stays_there() -> None:
    sent = [
        *(("host", "a"), ("connection", "close, X-Secret"), ("keep-alive", "5"), ("x-secret", "1"), ("te", "trailers")),
        *(("proxy-authorization", "x"), ("proxy", "http://evil"), ("expect", "100-continue"), ("accept", "*/*")),
    ]
    assert h.request_headers(sent, has_body=False) == [("host", "a"), ("accept", "*/*")]


def test_connection_cannot_remove_what_the_message_is_made_of() -> None:
    sent = [("host", "a"), ("connection", "host, content-length, cookie"), ("content-length", "3"), ("cookie", "c=1")]
    assert h.end_to_end(sent) == [("host", "a"), ("content-length", "3"), ("cookie", "c=1")]


def test_a_length_beside_a_transfer_coding_does_not_cross() -> None:
    assert h.end_to_end([("content-length", "3"), ("transfer-encoding", "chunked")]) == []


def test_a_websocket_upgrade_crosses_and_http2_does_not() -> None:
    def asked(protocol: str) -> list[tuple[str, str]]:
        return [("connection", "keep-alive, Upgrade"), ("upgrade", protocol)]

    assert h.request_headers(asked("websocket"), has_body=False) == [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
    ]
    assert h.request_headers(asked("h2c"), has_body=False) == []
    assert h.request_headers(asked("websocket"), has_body=True) == []
    assert h.request_headers([("upgrade", "websocket")], has_body=False) == []


def test_an_untrusted_client_does_not_choose_for_whom_it_asks() -> None:
    said = [("host", "shop"), ("x-forwarded-for", "10.0.0.1"), ("forwarded", "for=10.0.0.1"), ("x-real-ip", "10.0.0.1")]
    told = h.forwarded(said, client="203.0.113.9", proto="http", prefix="/t/n/s", trusted=False)
    assert told == [
        *(("host", "shop"), ("x-forwarded-for", "203.0.113.9"), ("x-forwarded-host", "shop")),
        *(("x-forwarded-proto", "http"), ("x-forwarded-prefix", "/t/n/s"), ("via", "1.1 kubeedge")),
    ]


def test_a_proxy_of_the_operator_does() -> None:
    said = [
        ("host", "inner"),
        ("x-forwarded-for", "198.51.100.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "shop"),
    ]
    told = dict(h.forwarded(said, client="10.0.0.1", proto="http", prefix="/t/n/s", trusted=True))
    assert told["x-forwarded-for"] == "198.51.100.1, 10.0.0.1"
    assert (told["x-forwarded-proto"], told["x-forwarded-host"]) == ("https", "shop")


@pytest.mark.parametrize(
    ("location", "seen"),
    [
        ("/login", "/t/n/s/login"),
        ("/", "/t/n/s/"),
        ("/?a=/b", "/t/n/s/?a=/b"),
        ("/t/n/s/login", "/t/n/s/login"),
        ("/t/n/s", "/t/n/s"),
        ("/t/n/s2/login", "/t/n/s/t/n/s2/login"),
        ("login", "login"),
        ("//other.example/x", "//other.example/x"),
        ("https://other.example/x", "https://other.example/x"),
        ("http://Shop.example:8080/x?y#z", "http://Shop.example:8080/t/n/s/x?y#z"),
        ("http://shop.example:8080", "http://shop.example:8080/t/n/s/"),
        ("http://shop.example:8080/t/n/s/x", "http://shop.example:8080/t/n/s/x"),
        ("http://[broken/x", "http://[broken/x"),
    ],
)
def test_a_redirect_leads_below_the_prefix(location: str, seen: str) -> None:
    assert h.response_headers([("location", location)], prefix="/t/n/s", host="shop.example:8080") == [
        ("location", seen)
    ]


def test_a_redirect_to_ourselves_keeps_the_scheme_that_the_client_uses() -> None:
    sent = [("location", "http://shop.example/x"), ("content-location", "http://other.example/x"), ("location", "/y")]
    seen = h.response_headers(sent, prefix="/t/n/s", host="shop.example", proto="https")
    assert [value for _, value in seen] == ["https://shop.example/t/n/s/x", "http://other.example/x", "/t/n/s/y"]


@pytest.mark.parametrize(
    ("referer", "target", "place"),
    [
        ("http://shop.example/t/n/s/", "/static/x.css?v=1", "/t/n/s/static/x.css?v=1"),
        ("https://SHOP.example/t/n/s/page?q=/a/b/c", "/a/b/c/d", "/t/n/s/a/b/c/d"),
        ("http://shop.example/t/n/s", "/", "/t/n/s/"),
        ("http://shop.example/t/n/s/static/x.css", "/font.woff", "/t/n/s/font.woff"),
        ("http://shop.example/t/n/s/", "/t/n/s/gone", None),  # it is there already: no circle
        ("http://shop.example/t/n/s/", "/t/n/s2", "/t/n/s/t/n/s2"),
        ("http://evil.example/t/n/s/", "/static/x", None),
        ("http://shop.example:81/t/n/s/", "/static/x", None),
        ("http://shop.example@evil.example/t/n/s/", "/static/x", None),
        ("http://user@shop.example/t/n/s/", "/static/x", None),
        ("http://shop.example/t/n/", "/static/x", None),
        ("http://shop.example//evil.example/n/s/", "/static/x", None),
        ("http://shop.example/T/n/s/", "/static/x", None),
        ("http://shop.example/t%2fn/n/s/", "/static/x", None),
        ("javascript://shop.example/t/n/s/", "/static/x", None),
        ("http://[broken/t/n/s/", "/static/x", None),
        ("/t/n/s/", "/static/x", None),
        ("http://shop.example/t/n/s/", "//evil.example/x", None),
        ("http://shop.example/t/n/s/", "http://evil.example/x", None),
        ("http://shop.example/t/n/s/", "*", None),
    ],
)
def test_an_absolute_path_leads_back_to_the_service_of_its_page(referer: str, target: str, place: str | None) -> None:
    found = h.back_below([("host", "shop.example"), ("referer", referer)], target)
    assert (found and found[1]) == place
    assert place is None or (found is not None and found[0] == "t" and place.startswith("/t/n/s/"))


@given(
    st.text(st.sampled_from("/abt.:@#?%\\\\-"), max_size=25),
    st.text(st.sampled_from("/abt.?%\\\\-"), max_size=25).map("/".__add__),
)
def test_whatever_the_referer_says_a_redirect_stays_on_this_host_and_in_the_service_of_the_page(
    page: str, target: str
) -> None:
    referer = f"http://a.b/{page}"
    found = h.back_below([("host", "a.b"), ("referer", referer)], target)
    if found is None:
        return
    tenant, place = found
    url = parse(place)  # it is a service of that tenant, and of that page
    assert url.tenant == tenant and place == url.prefix + target and not place.startswith("//")
    assert parse(urlsplit(referer).path).prefix == url.prefix and not target.startswith(url.prefix + "/")


def test_without_one_clear_referer_nothing_is_guessed() -> None:
    page = ("referer", "http://shop.example/t/n/s/")
    assert h.back_below([("host", "shop.example")], "/x") is None
    assert h.back_below([page], "/x") is None
    assert h.back_below([("host", ""), ("referer", "http:///t/n/s/")], "/x") is None
    assert h.back_below([("host", "shop.example"), page, page], "/x") is None


@pytest.mark.parametrize(
    ("cookie", "seen"),
    [
        ("a=1; Path=/", "a=1; Path=/t/n/s"),
        ("a=1; path=/; HttpOnly", "a=1; path=/t/n/s; HttpOnly"),
        ("a=1; PATH = /sub; Secure", "a=1; PATH = /t/n/s/sub; Secure"),
        ("a=1; Path=/t/n/s/x", "a=1; Path=/t/n/s/x"),
        ("a=1; Path=/t/n/other", "a=1; Path=/t/n/s/t/n/other"),
        ("a=/; Max-Age=5", "a=/; Max-Age=5"),
    ],
)
def test_a_cookie_stays_with_its_service(cookie: str, seen: str) -> None:
    assert h.response_headers([("set-cookie", cookie)], prefix="/t/n/s", host="") == [("set-cookie", seen)]
