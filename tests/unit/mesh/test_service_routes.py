"""Which networks the cluster IPs of IPv6 are in, and when the kernel is told of them."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from kubeedge.kubebus.l3.netlink import Route
from kubeedge.mesh import service_routes
from kubeedge.mesh.service_routes import MAX_ROUTES, ServiceRoutes, networks_of

ONE, TWO, FAR = (ipaddress.ip_address(text) for text in ("fd00:10:96::1", "fd00:10:96::ffff", "fd99::1"))
FOUR = ipaddress.ip_address("10.96.0.1")
OURS = ipaddress.IPv6Address("fd00:100:64::1")


class Kernel:
    """Takes routes as rtnetlink does, for one interface, which may be made again."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.changes = 0
        self.index, self.refuses = 7, False

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def replace_route(self, route: Route) -> None:
        if self.refuses:
            raise OSError(1, "no")
        self.changes += 1
        self.routes[str(route.network)] = route

    def remove_route(self, route: Route) -> None:
        self.changes += 1
        del self.routes[str(route.network)]

    def index_of(self, name: str) -> int:
        if not self.index:
            raise OSError(19, "no such device")
        return self.index


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    found = Kernel()
    monkeypatch.setattr(service_routes, "Netlink", lambda: found)
    monkeypatch.setattr(service_routes.socket, "if_nametoindex", found.index_of)
    return found


def test_a_few_networks_stand_for_all_addresses() -> None:
    assert [str(n) for n in networks_of([FAR, ONE, TWO, FOUR])] == ["fd00:10:96::/112", "fd99::/112"]
    many = [ipaddress.IPv6Address(int(ONE) + (n << 16)) for n in range(3 * MAX_ROUTES)]
    assert len(networks_of(many)) == MAX_ROUTES


def test_the_kernel_is_told_what_differs_when_it_differs(kernel: Kernel) -> None:
    routes = ServiceRoutes("kb0", OURS)
    routes.want([ONE, FOUR], 1)
    (route,) = kernel.routes.values()
    assert (str(route.network), route.index, route.source) == ("fd00:10:96::/112", 7, OURS)
    routes.want(_never(), 1)  # the same generation is not even read
    routes.want([ONE, TWO], 2)
    assert kernel.changes == 1
    routes.want([FAR], 3)
    assert list(kernel.routes) == ["fd99::/112"]


def test_an_interface_that_was_made_again_gets_them_again(kernel: Kernel) -> None:
    routes = ServiceRoutes("kb0", OURS)
    routes.want([ONE], 1)
    kernel.index = 0
    routes.want([ONE], 1)
    kernel.index = 8
    kernel.routes.clear()
    routes.want([ONE], 1)
    assert kernel.routes["fd00:10:96::/112"].index == 8


def test_what_the_kernel_refuses_is_tried_again(kernel: Kernel) -> None:
    routes = ServiceRoutes("kb0", OURS)
    kernel.refuses = True
    routes.want([ONE], 1)
    kernel.refuses = False
    routes.want([ONE], 1)
    assert list(kernel.routes) == ["fd00:10:96::/112"]


def _never() -> Any:
    raise AssertionError("asked for nothing")
    yield
