"""What a node has of IPv6 is kept beside its credentials, and left out where the kernel has none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kubeedge.agent import node_addresses
from kubeedge.agent.node_addresses import ToldAddresses, save, usable
from kubeedge.api.node_ipv6 import NONE, NodeIpv6
from kubeedge.config import node_credentials
from kubeedge.config.node_credentials import NodeCredentials, ipv6_path
from kubeedge.kit import ipv6
from tests.unit.config.test_edge import GOOD

OURS = NodeIpv6(address="fd00:100:64::1/64", pod_cidr="fd00:10:244:1::/64", pod_network="fd00:10:244::/48")


def credentials(found: NodeIpv6) -> NodeCredentials:
    return node_credentials.credentials({**GOOD, "ipv6": found.encode()})


def test_they_are_in_a_file_of_their_own_which_an_earlier_version_does_not_read(tmp_path: Path) -> None:
    path = tmp_path / "node.json"
    path.write_text(json.dumps(GOOD))
    assert node_credentials.load_credentials(path).ipv6 == NONE
    save(path, OURS)
    assert ipv6_path(path).stat().st_mode & 0o777 == 0o600
    found = node_credentials.load_credentials(path)
    assert found.ipv6 == OURS and found.pod_cidrs == ("10.244.1.0/24", "fd00:10:244:1::/64")
    assert found.overlay == ("10.244.0.0/16", "100.64.0.0/16", "fd00:10:244::/48", "fd00:100:64::/64")
    ipv6_path(path).write_text("{")
    assert node_credentials.load_credentials(path).ipv6 == NONE, "the relay says it again"
    save(path, NONE)
    assert not ipv6_path(path).exists()


def test_what_the_relay_says_is_kept_and_the_agent_starts_anew_once(tmp_path: Path) -> None:
    path, starts = tmp_path / "node.json", list[int]()
    told = ToldAddresses(path, NONE, lambda: starts.append(1))
    told(NONE)
    assert not starts and not ipv6_path(path).exists()
    for _ in range(2):  # each link says it
        told(OURS)
    assert len(starts) == 1 and ipv6_path(path).exists()
    told(NONE)  # a relay of an earlier version
    assert len(starts) == 1 and ipv6_path(path).exists()


def test_a_disk_that_is_full_changes_nothing(tmp_path: Path) -> None:
    starts = list[int]()
    told = ToldAddresses(tmp_path / "absent/node.json", NONE, lambda: starts.append(1))
    told(OURS)
    assert not starts


@pytest.mark.parametrize(
    ("all_", "default", "why"), [("0", "0", ""), ("1", "0", "all"), ("0", "1", "default"), ("", "", "no IPv6")]
)
def test_a_kernel_that_has_none_or_may_not_is_told_from_one_that_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, all_: str, default: str, why: str
) -> None:
    for name, value in (("all", all_), ("default", default)):
        if value:
            (tmp_path / name).mkdir()
            (tmp_path / name / "disable_ipv6").write_text(f"{value}\n")
    problem = ipv6.problem(tmp_path)
    assert (why in problem) if why else problem == ""
    monkeypatch.setattr(node_addresses.ipv6, "problem", lambda: problem)
    own, said = usable(credentials(OURS))
    assert said == problem and own.ipv6 == (NONE if why else OURS)
    assert usable(credentials(NONE)) == (credentials(NONE), ""), "a cloud without IPv6 asks nothing of the kernel"


def test_interfaces_that_listen_for_routers_go_on_when_the_machine_forwards(tmp_path: Path) -> None:
    for name, accept in (("all", "1"), ("eth0", "1"), ("cni0", "0")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "accept_ra").write_text(accept)
    (tmp_path / "all/forwarding").write_text("0\n")
    ipv6.forward(tmp_path)
    assert (tmp_path / "all/forwarding").read_text() == "1"
    assert [(tmp_path / n / "accept_ra").read_text() for n in ("all", "eth0", "cni0")] == ["2", "2", "0"]
    (tmp_path / "eth0/accept_ra").write_text("1")
    ipv6.forward(tmp_path)
    assert (tmp_path / "eth0/accept_ra").read_text() == "1", "what an administrator sets later stays"
