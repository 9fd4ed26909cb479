"""Longest-prefix match, against the plainest search there is, and the table in C against the readable one."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeedge.kubebus.l3 import netsetup
from tests.reference.routes import Routes

# prefixes that nest and collide: few different bits, all lengths
v4 = st.builds(
    lambda n, bits: str(ipaddress.ip_network((n << 24 | n, bits), strict=False)),
    st.sampled_from([0, 10, 11, 255]),
    st.integers(0, 32),
)
v6 = st.builds(
    lambda n, bits: str(ipaddress.ip_network((n << 120 | n, bits), strict=False)),
    st.sampled_from([0, 0x20, 0x21, 255]),
    st.integers(0, 128),
)
steps = st.lists(
    st.tuples(st.sampled_from(["add", "add", "remove"]), st.one_of(v4, v6), st.integers(0, 4)), max_size=40
)
addresses = st.one_of(
    st.builds(
        lambda n, m: str(ipaddress.IPv4Address(n << 24 | m)), st.sampled_from([0, 10, 11, 255]), st.integers(0, 300)
    ),
    st.builds(
        lambda n, m: str(ipaddress.IPv6Address(n << 120 | m)),
        st.sampled_from([0, 0x20, 0x21, 255]),
        st.integers(0, 300),
    ),
)


def test_the_longest_prefix_wins_and_gives_way_when_it_is_removed() -> None:
    routes = Routes()
    routes.add("0.0.0.0/0", 1)
    routes.add("10.244.0.0/16", 2)
    routes.add("10.244.3.0/24", 3)
    routes.add("10.244.3.9/32", 4)
    assert [routes.lookup(a) for a in ("8.8.8.8", "10.244.1.1", "10.244.3.1", "10.244.3.9")] == [1, 2, 3, 4]
    routes.remove("10.244.3.0/24")
    assert routes.lookup("10.244.3.1") == 2
    routes.remove("0.0.0.0/0")
    assert routes.lookup("8.8.8.8") is None
    assert routes.lookup("::a0f:0") is None
    assert len(routes) == 2


def test_addresses_come_as_text_or_as_bytes_of_a_packet() -> None:
    routes = Routes()
    routes.add("2001:db8::/32", 7)
    assert routes.lookup("2001:db8::1") == routes.lookup(ipaddress.ip_address("2001:db8::1").packed) == 7
    with pytest.raises(ValueError, match="host bits"):
        routes.add("10.0.0.1/8", 1)


@given(steps, st.lists(addresses, max_size=10))
def test_like_a_search_through_all_prefixes(changes: list[tuple[str, str, int]], asked: list[str]) -> None:
    routes, plain = Routes(), {}
    for what, prefix, port in changes:
        if what == "add":
            routes.add(prefix, port)
            plain[ipaddress.ip_network(prefix)] = port
        else:
            routes.remove(prefix)
            plain.pop(ipaddress.ip_network(prefix), None)
    for text in asked:
        ip = ipaddress.ip_address(text)
        best = max((n for n in plain if n.version == ip.version and ip in n), key=lambda n: n.prefixlen, default=None)
        assert routes.lookup(text) == (None if best is None else plain[best])
    assert len(routes) == len(plain)


@settings(max_examples=150, deadline=None)
@given(steps, st.lists(addresses, max_size=10))
def test_the_table_in_c_agrees(changes: list[tuple[str, str, int]], asked: list[str]) -> None:
    fast = pytest.importorskip("kubeedge._fastpath.plane")
    plane, routes = fast.Plane(0), Routes()
    try:
        for what, prefix, n in changes:
            if what == "add":
                routes.add(prefix, n)
                plane.add_route(1, prefix, n)
            else:
                routes.remove(prefix)
                plane.remove_route(1, prefix)
        for text in asked:
            assert plane.lookup(1, text) == routes.lookup(text)
            assert plane.lookup(2, text) is None  # another tenant's table
    finally:
        plane.close()


def test_an_overlay_has_its_ipv4_where_forwarding_of_ipv6_cannot_be_switched_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read_only() -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(netsetup.ipv6, "forward", read_only)
    monkeypatch.setattr(netsetup.Overlay, "configure", lambda overlay: None)
    made = asyncio.run(netsetup.configure("kb0", "100.64.0.1/16", mtu=1400, routes=(), address_ipv6="fd00::1/64"))
    assert isinstance(made, netsetup.Overlay) and "IPv6 are not passed on" in caplog.text
