"""URLs of web services."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.errors import Invalid
from kubeedge.kubebus.http.url import ServiceUrl, parse, parse_l4

labels = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
rests = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40).map(lambda text: "/" + text)


@pytest.mark.parametrize(
    ("target", "rest"),
    [
        ("/t/n/s", "/"),
        ("/t/n/s/", "/"),
        ("/t/n/s?q=1", "/?q=1"),
        ("/t/n/s/a%2Fb/../c;d?x=/t/n", "/a%2Fb/../c;d?x=/t/n"),
        ("/t/n/s//double", "//double"),
        ("http://shop.example:8080/t/n/s/a", "/a"),
        ("HTTPS://[::1]/t/n/s", "/"),
    ],
)
def test_the_rest_is_what_the_service_sees_untouched(target: str, rest: str) -> None:
    url = parse(target)
    assert (url.tenant, url.node, url.service, url.rest) == ("t", "n", "s", rest)
    assert url.prefix == "/t/n/s"
    assert parse_l4(url.l4_target) == ("s", rest)


@given(labels, labels, labels, rests)
def test_what_is_formatted_is_parsed_again(tenant: str, node: str, service: str, rest: str) -> None:
    url = parse(f"/{tenant}/{node}/{service}{rest}")
    assert url == parse(url.target) == ServiceUrl(url.tenant, url.node, url.service, rest)
    assert parse_l4(url.l4_target) == (service, rest)


@pytest.mark.parametrize(
    "target",
    [
        *("", "/", "//", "*", "/t", "/t/n", "/t/n/", "/t/n?x=/s", "//n/s/x", "/t//s/x", "t/n/s", "/T/n/s", "/t/n/s_x/"),
        *(
            "/t/../s/x",
            "/t/n/%73/x",
            "/t%2Fn/s/x",
            "/t/n/-s/",
            "/" + "t" * 64 + "/n/s",
            "/t/n/s:80/",
            "http://only.host",
        ),
        "/t/n\n/s/",
    ],
)
def test_anything_else_is_refused(target: str) -> None:
    with pytest.raises(Invalid):
        parse(target)


@pytest.mark.parametrize("target", ["", "/", "*", "//x", "/S/x", "?x", "/a b/"])
def test_over_l4_the_service_comes_first(target: str) -> None:
    with pytest.raises(Invalid):
        parse_l4(target)
