"""Everything here runs on both data planes: the one in C and its reference implementation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kubeedge.kubebus.l3 import plane as plane_module
from tests.kit.certs import TestAuthority
from tests.kit.planes import Harness
from tests.reference import plane as reference


class Certificates:
    def __init__(self, authority: TestAuthority) -> None:
        self.authority = authority
        self.relay = authority.issue("relay", uri="spiffe://kubeedge/cloud/relay", hosts=["relay", "192.0.2.1"])
        self.nodes = [authority.issue(f"n{n}", uri=f"spiffe://kubeedge/tenant/t/node/n{n}") for n in range(5)]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(TestAuthority(tmp_path_factory.mktemp("certificates")))


@pytest.fixture(params=["c", "python"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "python":
        monkeypatch.setattr(plane_module, "fastpath", reference)
    name: str = request.param
    return name


@pytest.fixture
def harness(implementation: str) -> Iterator[Harness]:
    with Harness() as harness:
        yield harness
