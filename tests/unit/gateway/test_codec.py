"""Rows between cloud and node: what goes in comes out, and what makes no sense is refused in one way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api.names import TenantId
from kubeedge.errors import Invalid
from kubeedge.gateway import codec, reports
from kubeedge.gateway.model import (
    CertificateRef,
    CompiledRoutes,
    HeaderChange,
    ListenPoint,
    MirrorTarget,
    PathChange,
    RedirectAnswer,
    RouteBackend,
    RouteEntry,
    RouteMatch,
    RouteRule,
    StreamEntry,
    UrlChange,
)

T = TenantId("acme")
AT = ListenPoint("192.0.2.1", 80)
CHANGE = HeaderChange((("a", "1"),), (("b", "2"),), frozenset(("c", "d")))


def table() -> CompiledRoutes:
    backend = RouteBackend("shop", "web", "http", 3, CHANGE, None)
    full = RouteRule(
        "HTTPRoute shop/a",
        (backend, RouteBackend("gone", "x", fault="there is none")),
        CHANGE,
        HeaderChange(remove=frozenset("x")),
        None,
        UrlChange("inner.example", PathChange("/v2", prefix=True)),
        (MirrorTarget(backend, 0.25),),
        1.5,
        0.5,
    )
    redirect = RouteRule("HTTPRoute shop/b", redirect=RedirectAnswer("https", "", PathChange("/x"), 8443, 301))
    match = RouteMatch("/a", True, "GET", (("x-y", "z"),), (("q", "1"),))
    return CompiledRoutes(
        T,
        entries=(
            RouteEntry("shop.example", "http", match, full, ("2026", "shop/a", 1, 2), at=AT, listener="*.example"),
            RouteEntry("*", "http", RouteMatch(), redirect, one_label=True, at=ListenPoint("", 8080)),
            RouteEntry("b.example", "http", RouteMatch("/b"), full, at=AT),
        ),
        certificates=(CertificateRef("shop.example", "shop", "tls", ListenPoint("", 443)),),
        points={AT: "HTTP", ListenPoint("", 443): "TLS"},
        streams=(StreamEntry(ListenPoint("", 443), "tcp.example", full, terminate=True),),
        listeners={(AT, "*.example"): "http"},
    )


def without_rules(routes: CompiledRoutes) -> Any:
    """Rules are equal if they are the same one; what is in them is compared by what is written of them."""
    entries = [(e.hostname, e.scheme, e.match, e.origin, e.one_label, e.at, e.listener) for e in routes.entries]
    streams = [(e.at, e.hostname, e.terminate) for e in routes.streams]
    return entries, streams, routes.certificates, dict(routes.points), dict(routes.listeners)


def test_a_table_comes_out_as_it_went_in() -> None:
    row = codec.encoded(table())
    found = codec.decoded(T, row)
    assert codec.encoded(found) == row and codec.encoded(table()) == row
    assert without_rules(found) == without_rules(table())
    first, second, third = (entry.rule for entry in found.entries)
    assert first is third and first is found.streams[0].rule and first is not second
    assert second.redirect == RedirectAnswer("https", "", PathChange("/x"), 8443, 301) and not second.backends
    assert (first.timeout, first.backend_timeout) == (1.5, 0.5) and first.request == CHANGE
    assert first.backends[0] == RouteBackend("shop", "web", "http", 3, CHANGE, None)
    assert first.mirrors[0].share == 0.25 and first.rewrite == UrlChange("inner.example", PathChange("/v2", True))


def test_what_a_node_needs_besides_is_in_the_row() -> None:
    assert codec.needs(codec.encoded(table())) == (frozenset({("shop", "tls")}), frozenset({"shop"}))
    assert (
        codec.needs(b"nonsense") == codec.needs(b"[]") == codec.needs(b'{"secrets": 1}') == (frozenset(), frozenset())
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.data())
def test_a_table_with_something_else_in_it_is_refused_or_is_a_table(data: st.DataObject) -> None:
    document = json.loads(codec.encoded(table()))
    where = data.draw(st.sampled_from(sorted(document)))
    if data.draw(st.booleans()) and document[where]:
        document[where][0] = data.draw(json_values)
    else:
        document[where] = data.draw(json_values)
    row = json.dumps(document).encode()
    codec.needs(row)
    try:
        found = codec.decoded(T, row)
    except Invalid:
        return
    assert all(0 < at.port < 65536 for at in found.points)


def test_a_row_that_is_too_large_is_refused_before_it_is_read() -> None:
    with pytest.raises(Invalid, match="more than"):
        codec.decoded(T, b" " * (codec.MAX_ROW + 1))
    with pytest.raises(Invalid, match="no object"):
        codec.decoded(T, b"[]")


def test_a_row_that_a_node_refuses_is_known_before_it_is_written() -> None:
    at, few = ListenPoint("", 80), RouteRule("HTTPRoute d/s", (RouteBackend("d", "s"),))

    def row(rule: RouteRule, count: int) -> bytes:
        rules = [RouteRule(rule.name, rule.backends) for _ in range(count)]
        entries = tuple(RouteEntry("a.b", "http", RouteMatch(f"/{n}"), r, at=at) for n, r in enumerate(rules))
        return codec.encoded(CompiledRoutes(T, entries=entries))

    many = row(RouteRule("HTTPRoute d/s", few.backends * 16), 800)
    assert len(many) < codec.MAX_ROW and "values" in codec.excess(many)
    with pytest.raises(Invalid):
        codec.decoded(T, many)
    assert "bytes" in codec.excess(b" " * (codec.MAX_ROW + 1))
    assert not codec.excess(row(few, 800)) and codec.needs(row(few, 800))[1] == {"d"}


def test_a_report_of_a_node_is_bounded() -> None:
    report = reports.ListenReport(
        "192.0.2.1", ["192.0.2.2", "2001:db8::1"], {AT: "in use", ListenPoint("", 80): "x" * 999}
    )
    found = reports.decoded(reports.encoded(report))
    assert (found.address, found.addresses) == ("192.0.2.1", ["192.0.2.2", "2001:db8::1"])
    assert found.failed == {AT: "in use", ListenPoint("", 80): "x" * 200}
    many = reports.ListenReport(
        "", [f"192.0.2.{n}" for n in range(200)], {ListenPoint("", n): "" for n in range(1, 99)}
    )
    found = reports.decoded(reports.encoded(many))
    assert (len(found.addresses), len(found.failed)) == (reports.MAX_ADDRESSES, 64)
    for bad in (
        b"",
        b"[]",
        b"{}",
        b'{"address":"x","addresses":[],"failed":[]}',
        b'{"address":"","addresses":[],"failed":[1]}',
        b'{"address":1,"addresses":[],"failed":[]}',
        b'{"address":"","addresses":[true],"failed":[]}',
        b'{"address":"fe80::1%'
        + b"x" * 5_000
        + b'","addresses":[],"failed":[]}',  # it would be in the status of Gateways
    ):
        with pytest.raises(Invalid):
            reports.decoded(bad)
    with pytest.raises(Invalid):
        reports.decoded(b" " * 100_000)
