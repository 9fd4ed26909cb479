"""CNI plugins, as programs of this test."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
