"""Which kubelet port is whose, and who may use it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from kubeedge.api.names import NodeNumber, TenantNumber
from kubeedge_cloud.kubelets.core import Answers, Caller, Right, bearer, may_use, port_of, right_for, user_of


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
    assert may_use(user_of({"subject": subject}), ("api",)) is expected


def test_no_certificate_may_do_nothing() -> None:
    assert not may_use(user_of(None), ("api",))
    assert not may_use(user_of({}), ("",))
    assert not may_use(user_of({"subject": [[("commonName", "")]]}), ("",))


def test_the_organizations_of_a_certificate_are_groups() -> None:
    subject = [[("organizationName", "a")], [("organizationName", "b")], [("commonName", "jane")]]
    assert user_of({"subject": subject}) == Caller("jane", groups=("a", "b", "system:authenticated"))


@pytest.mark.parametrize(
    ("method", "path", "right"),
    [
        ("GET", "/metrics", Right("get", "metrics")),
        ("GET", "/metrics/cadvisor", Right("get", "metrics")),
        ("GET", "/stats/summary", Right("get", "stats")),
        ("GET", "/logs/a", Right("get", "log")),
        ("GET", "/metricsx", Right("get", "proxy")),
        ("GET", "/containerLogs/n/p/c", Right("get", "proxy")),
        ("GET", "/", Right("get", "proxy")),
        ("POST", "/exec/n/p/c", Right("create", "proxy")),
        ("GET", "/exec/n/p/c", Right("create", "proxy")),  # a WebSocket: who may read must not run programs
        ("GET", "//portForward/n/p", Right("create", "proxy")),
        ("DELETE", "/pods", None),
        ("CONNECT", "/metrics", None),
    ],
)
def test_what_a_request_needs(method: str, path: str, right: Right | None) -> None:
    assert right_for(method, path) == right


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Basic abc", ""), ("Bearer", ""), ("", ""), (None, "")],
)
def test_a_token_is_that_of_a_bearer(header: str | None, token: str) -> None:
    assert bearer(header) == token


def test_a_user_is_written_as_it_was_read() -> None:
    info = {"username": "jane", "uid": "7", "groups": ["a"], "extra": {"scopes": ["x", "y"]}}
    user = Caller.of(info)
    assert user and user.spec() == {"user": "jane", "uid": "7", "groups": ["a"], "extra": {"scopes": ["x", "y"]}}
    assert Caller.of({"username": ""}) is None


def test_answers_are_kept_for_their_time_and_no_more_than_so_many() -> None:
    answers: Answers[str, bool] = Answers(2)
    assert answers.put("a", True, 10.0).value and answers.get("a", 9.9) and answers.get("a", 10.0) is None
    for name in ("b", "c"):
        answers.put(name, False, 10.0)
    assert answers.get("a", 0.0) is None and answers.get("b", 0.0) and answers.get("c", 0.0)


def test_a_user_of_a_tenants_cluster_takes_little_memory() -> None:
    """A thousand of them are remembered, and a server may answer with megabytes."""
    assert Caller.of({"username": "jane", "groups": [f"group-{n}" for n in range(2000)]}) is not None
    for info in (
        {"username": "x" * 300_000},
        {"username": "x", "uid": "y" * 300_000},
        {"username": "x", "groups": ["g"] * 5000},
        {"username": "x", "extra": {"a": [""] * 5000}},
        {"username": "x", "extra": {str(n): [] for n in range(5000)}},
    ):
        assert Caller.of(info) is None
