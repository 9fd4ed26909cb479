"""/etc/hosts and /etc/resolv.conf of a pod."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubeedge.appengine.prepare import sandbox_config
from kubeedge.appengine.resolve import Missing, sub_path
from kubeedge.appengine.runtime.sandbox_files import write_etc
from kubeedge.errors import Invalid
from kubeedge.kit.resolv_conf import ResolvConf, of_pod
from tests.unit.appengine.world import pod


def etc(tmp_path: Path, name: str, **spec: Any) -> str:
    write_etc(tmp_path / "etc", sandbox_config(pod(**spec), tmp_path), "10.244.1.2")
    return (tmp_path / "etc" / name).read_text()


def test_a_subdomain_gives_the_full_name_before_the_short_one(tmp_path: Path) -> None:
    hosts = etc(tmp_path, "hosts", hostname="web-0", subdomain="web")
    assert "10.244.1.2\tweb-0.web.default.svc.cluster.local\tweb-0\n" in hosts
    assert "10.244.1.2\tweb-0\n" in etc(tmp_path, "hosts", hostname="web-0")


def test_the_first_line_says_who_writes_the_file(tmp_path: Path) -> None:
    """Kubernetes' own tests look for it."""
    assert etc(tmp_path, "hosts").startswith("# Kubernetes-managed hosts file.\n127.0.0.1\t")
    assert etc(tmp_path, "hosts", hostNetwork=True).startswith("# Kubernetes-managed hosts file (host network).\n")


def test_names_of_an_alias_are_separated_as_by_the_kubelet(tmp_path: Path) -> None:
    aliases = [{"ip": "192.0.2.1", "hostnames": ["foo", "bar"]}, {"ip": "192.0.2.2", "hostnames": ["x"]}]
    assert etc(tmp_path, "hosts", hostAliases=aliases).endswith("\n192.0.2.1\tfoo\tbar\n192.0.2.2\tx\n")


def test_options_of_the_resolver_are_written(tmp_path: Path) -> None:
    options = [{"name": "ndots", "value": "2"}, {"name": "edns0"}]
    dns = {"nameservers": ["10.0.0.1"], "searches": ["a.example"], "options": options}
    text = etc(tmp_path, "resolv.conf", dnsPolicy="None", dnsConfig=dns)
    assert text == "nameserver 10.0.0.1\nsearch a.example\noptions ndots:2 edns0\n"
    assert etc(tmp_path, "resolv.conf", dnsConfig={"options": options}).endswith("\noptions ndots:2 edns0\n")


@pytest.mark.parametrize(
    "option", [{"name": "a\nnameserver 1.2.3.4"}, {"name": "ndots", "value": "1 debug"}, {}, "ndots"]
)
def test_an_option_is_one_word_of_one_line(option: Any) -> None:
    with pytest.raises(Invalid, match="dnsConfig.options"):
        pod(dnsConfig={"options": [option]})


def test_a_sub_path_expression_needs_its_variables() -> None:
    assert sub_path("logs/$(POD)", {"POD": "a"}) == "logs/a"
    assert sub_path("$$(POD)", {}) == "$(POD)"
    with pytest.raises(Missing, match="POD"):
        sub_path("logs/$(POD)", {})


def test_dns_policies_are_those_of_kubernetes() -> None:
    machine = "nameserver 192.168.1.1\nsearch home.lan\noptions rotate\n"
    cluster = ResolvConf(["169.254.20.10"], ["a.svc.cluster.local"], ["ndots:5"])
    first = "nameserver 169.254.20.10\nsearch a.svc.cluster.local home.lan\noptions ndots:5\n"
    assert (
        of_pod("ClusterFirst", {}, machine, cluster) == of_pod("ClusterFirstWithHostNet", {}, machine, cluster) == first
    )
    assert of_pod("Default", {}, machine, cluster) == of_pod("ClusterFirst", {}, machine, None) == machine
    more = {"nameservers": ["9.9.9.9"], "searches": ["x"], "options": ["ndots:2"]}
    added = "nameserver 169.254.20.10\nnameserver 9.9.9.9\nsearch a.svc.cluster.local home.lan x\noptions ndots:2\n"
    assert of_pod("ClusterFirst", more, machine, cluster) == added
    assert of_pod("None", more, machine, cluster) == "nameserver 9.9.9.9\nsearch x\noptions ndots:2\n"
