"""CNI plugins, as programs of this test."""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kubeedge.appengine.runtime import cni
from kubeedge.appengine.runtime.cni import Network

#: notes how many of it run
_PLUGIN = """#!/bin/sh
touch {directory}/$CNI_CONTAINERID
ls {directory} | wc -l >>{seen}
sleep 0.2
rm {directory}/$CNI_CONTAINERID
echo '{{"ips": [{{"address": "10.1.0.2/24"}}]}}'
"""


def test_no_more_plugins_run_at_once_than_there_are_processors(tmp_path: Path) -> None:
    plugins, running, seen = tmp_path / "bin", tmp_path / "running", tmp_path / "seen"
    plugins.mkdir()
    running.mkdir()
    (plugins / "bridge").write_text(_PLUGIN.format(directory=running, seen=seen))
    (plugins / "bridge").chmod(0o755)
    network = Network("kb-test", ("10.1.0.0/24",), tmp_path / "data", (str(plugins),))
    count = 4 * (os.cpu_count() or 1)
    with ThreadPoolExecutor(count) as together:
        addresses = list(together.map(lambda n: network.add(f"c{n}", Path("/proc/self/ns/net")), range(count)))
    assert addresses == [["10.1.0.2"]] * count
    at_once = [int(line) for line in seen.read_text().split()]
    assert len(at_once) == count and max(at_once) <= (os.cpu_count() or 1)


def test_a_node_with_both_versions_gives_a_pod_an_address_of_each(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    plugin = tmp_path / "bin/bridge"
    answer = '{"ips": [{"address": "fd00:10:244:1::2/64"}, {"address": "10.1.0.2/24"}]}'
    plugin.write_text(f"#!/bin/sh\ncat >{tmp_path}/asked\necho '{answer}'\n")
    plugin.chmod(0o755)
    network = Network("kb-test", ("10.1.0.0/24", "fd00:10:244:1::/64"), tmp_path / "data", (str(plugin.parent),))
    assert network.add("c", Path("/proc/self/ns/net")) == ["10.1.0.2", "fd00:10:244:1::2"]
    ipam = json.loads((tmp_path / "asked").read_text())["ipam"]
    assert ipam["ranges"] == [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:10:244:1::/64"}]]
    assert ipam["routes"] == [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    assert network.has("10.1.0.9") and not network.has("10.2.0.9") and network.has("")


@pytest.mark.parametrize("fails", ["none", "ip6", "ip"])
def test_each_family_is_translated_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    said, done = [], []

    def nft(argv: list[str], *, input: str, **_: object) -> subprocess.CompletedProcess[str]:
        said.append(input)
        return subprocess.CompletedProcess(argv, int(f"table {fails} " in input), "", "no such family")

    monkeypatch.setattr(cni.subprocess, "run", nft)
    monkeypatch.setattr(cni.ipv6, "forward", lambda: done.append("ipv6"))
    monkeypatch.setattr(cni, "Path", lambda text: tmp_path / "switch")
    (tmp_path / "switch").write_text("0")
    networks = ("10.244.0.0/16", "100.64.0.0/16", "fd00:10:244::/48", "fd00:100:64::/64")
    if fails == "none":
        cni.masquerade(("10.244.1.0/24", "fd00:10:244:1::/64"), networks)
    else:
        with pytest.raises(OSError, match="no such family"):
            cni.masquerade(("10.244.1.0/24", "fd00:10:244:1::/64"), networks)
    four, six = said
    assert "ip saddr 10.244.1.0/24 ip daddr != { 10.244.0.0/16, 100.64.0.0/16 } masquerade" in four
    assert "ip6 saddr fd00:10:244:1::/64 ip6 daddr != { fd00:10:244::/48, fd00:100:64::/64 } masquerade" in six
    assert (tmp_path / "switch").read_text() == "1" and done == ["ipv6"], "packets are passed on all the same"
