"""Which kubelet port is whose, and who may use it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from kubeedge.api.names import NodeNumber, TenantNumber
from kubeedge_cloud.kubelets.core import may_use, port_of


def test_each_node_of_each_tenant_has_a_port_of_its_own_while_there_are_any() -> None:
    ports = [
        port_of(20250, 255, TenantNumber(tenant), NodeNumber(node))
        for tenant, node in itertools.product(range(1, 200), range(1, 256))
    ]
    there = [port for port in ports if port is not None]
    assert len(set(there)) == len(there) == 65535 - 20250 + 1
    assert there[0] == 20250 and max(there) == 65535 and ports[-1] is None


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ([[("commonName", "api")]], True),
        ([[("organizationName", "system:masters")], [("commonName", "api")]], True),
        ([[("commonName", "other")]], False),
        ([[("commonName", "api")], [("commonName", "other")]], False),  # which of them is it?
        ([[("organizationName", "api")]], False),
        ([], False),
    ],
)
def test_a_certificate_is_taken_by_its_one_common_name(subject: Any, expected: bool) -> None:
    assert may_use({"subject": subject}, ("api",)) is expected


def test_no_certificate_may_do_nothing() -> None:
    assert (
        not may_use(None, ("api",))
        and not may_use({}, ("",))
        and not may_use({"subject": [[("commonName", "")]]}, ("",))
    )
