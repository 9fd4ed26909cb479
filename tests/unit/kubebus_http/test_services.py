"""Names of web services to addresses, from what the node's store says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.errors import NotFound, Unavailable
from kubeedge.kubebus.http.url import ServiceName, Target
from kubeedge.publishing.servicetable.core import PREFIXES, ServiceTable

SHOP = ServiceName("shop")


def pod(table: ServiceTable, name: str, ip: str, *, ready: bool = True, **metadata: Any) -> None:
    table.apply(
        f"/desired/pods/default/{name}",
        {
            "metadata": {"uid": name, "labels": {"app": "shop", "tier": "web"}, **metadata},
            "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]},
        },
    )
    status = {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": str(ready)}]}
    table.apply(f"/reported/pods/default/{name}", {"uid": name, "status": status})


def publish(table: ServiceTable, port: Any = "http", **selector: str) -> None:
    value = {"namespace": "default", "selector": selector or {"app": "shop"}, "port": port}
    table.apply("/desired/webservices/_/shop", json.dumps(value).encode())


def test_ready_pods_take_turns() -> None:
    table = ServiceTable()
    publish(table)
    pod(table, "a", "10.244.1.2")
    pod(table, "b", "10.244.1.3")
    pod(table, "c", "10.244.1.4", ready=False)
    pod(table, "d", "10.244.1.5", deletionTimestamp="2026-11-23T00:00:00Z")
    pod(table, "e", "10.244.1.6", labels={"app": "other"})
    assert [str(table.resolve(SHOP)) for _ in range(3)] == ["10.244.1.2:8080", "10.244.1.3:8080", "10.244.1.2:8080"]


def test_a_pod_that_goes_is_not_asked_again() -> None:
    table = ServiceTable()
    publish(table, 80)
    pod(table, "a", "10.244.1.2")
    assert table.resolve(SHOP) == Target("10.244.1.2", 80)
    table.apply("/reported/pods/default/a", {"uid": "a", "gone": True})
    with pytest.raises(Unavailable, match="shop has no ready pod"):
        table.resolve(SHOP)


def test_a_report_about_an_earlier_pod_of_the_same_name_does_not_count() -> None:
    table = ServiceTable()
    publish(table)
    pod(table, "a", "10.244.1.2", uid="new")
    with pytest.raises(Unavailable):
        table.resolve(SHOP)


def test_a_running_pod_without_conditions_counts_as_ready() -> None:
    table = ServiceTable()
    publish(table)
    pod(table, "a", "10.244.1.2")
    table.apply("/reported/pods/default/a", {"uid": "a", "status": {"phase": "Running", "podIP": "10.244.1.9"}})
    assert table.resolve(SHOP) == Target("10.244.1.9", 8080)


def test_what_the_node_itself_publishes_wins() -> None:
    table = ServiceTable()
    publish(table)
    pod(table, "a", "10.244.1.2")
    table.apply("/reported/webservices/_/shop", {"target": "[::1]:9090"})
    assert table.resolve(SHOP) == Target("::1", 9090)
    table.apply("/reported/webservices/_/shop", None)
    assert table.resolve(SHOP) == Target("10.244.1.2", 8080)
    table.apply("/desired/webservices/_/shop", None)
    with pytest.raises(NotFound, match="no web service shop"):
        table.resolve(SHOP)


@pytest.mark.parametrize("target", ["", "8080", "host:0", "host:http", "a b:80", 8080, None, "x:" + "9" * 99])
def test_a_target_that_makes_no_sense_is_named_to_who_asks(target: object) -> None:
    table = ServiceTable()
    table.apply("/reported/webservices/_/shop", {"target": target})
    with pytest.raises(Unavailable, match="shop"):
        table.resolve(SHOP)


def test_a_named_port_is_looked_up_in_each_pod() -> None:
    table = ServiceTable()
    publish(table, "metrics")
    pod(table, "a", "10.244.1.2")
    with pytest.raises(Unavailable, match="metrics"):
        table.resolve(SHOP)
    publish(table, "8081")
    assert table.resolve(SHOP) == Target("10.244.1.2", 8081)


def test_the_names_of_all_services_are_listed() -> None:
    table = ServiceTable()
    publish(table)
    table.apply("/reported/webservices/_/tool", {"target": "127.0.0.1:1"})
    table.apply("/reported/nodes/_/n1", {})
    assert table.names() == ["shop", "tool"]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "shop", "Running", "a", "default"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "metadata",
                    "labels",
                    "app",
                    "uid",
                    "spec",
                    "containers",
                    "ports",
                    "name",
                    "containerPort",
                    "status",
                    "podIP",
                ]
                + ["conditions", "type", "phase", "namespace", "selector", "port", "target"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(st.tuples(st.sampled_from(PREFIXES), values | st.binary(max_size=8)), max_size=5), st.data())
def test_nothing_in_the_store_breaks_the_table(changes: list[tuple[str, Any]], data: st.DataObject) -> None:
    table = ServiceTable()
    publish(table, data.draw(st.sampled_from([80, "http", True, 0])))
    for prefix, value in changes:
        table.apply(
            f"{prefix}default/a" if "pods" in prefix else f"{prefix}_/shop",
            value if isinstance(value, bytes) else json.dumps(value).encode(),
        )
    try:
        assert isinstance(table.resolve(SHOP), Target)
    except (NotFound, Unavailable):
        pass
