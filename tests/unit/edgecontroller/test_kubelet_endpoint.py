"""Where the API server of a cluster finds the kubelet API of a node."""

from __future__ import annotations

from kubeedge_cloud.edgecontroller.kubelet_endpoint import KubeletEndpoint, with_endpoint

OWN = {"type": "InternalIP", "address": "10.0.0.7"}
STATUS = {
    "addresses": [OWN, {"type": "Hostname", "address": "edge1"}],
    "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
    "capacity": {"cpu": "1"},
}


def test_an_address_comes_before_that_of_the_node() -> None:
    status = with_endpoint(STATUS, KubeletEndpoint("192.0.2.1", 20250))
    assert status["addresses"] == [
        {"type": "InternalIP", "address": "192.0.2.1"},
        OWN,
        {"type": "Hostname", "address": "192.0.2.1"},  # whichever type an API server prefers
    ]
    assert status["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 20250}} and status["capacity"] == {"cpu": "1"}
    assert with_endpoint(status, KubeletEndpoint("192.0.2.1", 20250)) == status


def test_a_name_is_the_hostname() -> None:
    status = with_endpoint(STATUS, KubeletEndpoint("cloud.example.org", 20251))
    assert status["addresses"] == [OWN, {"type": "Hostname", "address": "cloud.example.org"}]


def test_a_node_that_reports_no_addresses_or_bad_ones_is_found() -> None:
    for addresses in ([], None, ["x", 7]):
        status = with_endpoint({"addresses": addresses}, KubeletEndpoint("fd00::1", 20250))
        assert status["addresses"][0] == {"type": "InternalIP", "address": "fd00::1"}


def test_without_such_ports_a_node_speaks_for_itself() -> None:
    assert with_endpoint(STATUS, None) == STATUS
