from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kubeedge.config import edge, forms, node_credentials
from kubeedge.errors import Invalid

GOOD = {
    "tenant": "default", "node": "edge1", "number": 1, "address": "100.64.0.1/16", "podCIDR": "10.244.1.0/24",
    "hub": ["203.0.113.2:10000"], "relays": ["203.0.113.2:10010"], "bootstrap": ["[2001:db8::1]:10002"],
}  # fmt: skip


def test_what_join_wrote_is_read_back(tmp_path: Path):
    (tmp_path / "node.json").write_text(json.dumps(GOOD))
    node = node_credentials.load_credentials(tmp_path / "node.json")
    assert (node.node, node.number, node.pod_cidr, node.hub) == ("edge1", 1, "10.244.1.0/24", ("203.0.113.2:10000",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"number": "1"}, "number: text"),
        ({"number": 0}, "number: 0; it must be from 1"),
        ({"node": "../../etc"}, "node: '../../etc' is not an RFC 1123 label"),
        ({"podCIDR": "10.244.1.5"}, None),
        ({"podCIDR": "10.244.1.5/24"}, "podCIDR: '10.244.1.5/24' is not a network"),
        ({"hub": "203.0.113.2:10000"}, "hub: text"),
        ({"relays": ["203.0.113.2:99999"]}, "relays[0]: '203.0.113.2:99999' is not HOST:PORT"),
        ({"address": None}, "address: nothing"),
    ],
)
def test_damaged_credentials_are_refused_with_the_field_and_what_to_do(tmp_path: Path, change, message):
    (tmp_path / "node.json").write_text(json.dumps({**GOOD, **change}))
    if message is None:  # a single address is a network of one
        node_credentials.load_credentials(tmp_path / "node.json")
        return
    with pytest.raises(Invalid) as error:
        node_credentials.load_credentials(tmp_path / "node.json")
    assert message in str(error.value) and "kubeedge join --force" in str(error.value)


@pytest.mark.parametrize("text", ["", "null", "[]", "{", "7", '"x"', "[" * 100_000])
def test_garbage_in_the_credentials_is_no_traceback(tmp_path: Path, text):
    (tmp_path / "node.json").write_text(text)
    with pytest.raises(Invalid, match="kubeedge join --force"):
        node_credentials.load_credentials(tmp_path / "node.json")


def test_a_machine_that_has_not_joined_is_told_to(tmp_path: Path):
    with pytest.raises(Invalid, match="run `kubeedge join` first"):
        node_credentials.load_credentials(tmp_path / "node.json")


def test_all_paths_move_below_another_root():
    paths = edge.at_root(Path("/srv/e1"))
    assert str(paths.state) == "/srv/e1/var/lib/kubeedge/edge"
    assert str(node_credentials.credentials_path(paths)) == "/srv/e1/etc/kubeedge/node.json"
    assert edge.at_root(Path("/")) == edge.Paths()
    assert edge.at_root(Path("relative")).run.is_absolute()


@pytest.mark.parametrize(
    ("text", "pair"),
    [("cloud.example:1", ("cloud.example", 1)), ("[::1]:65535", ("::1", 65535)), ("10.0.0.1:80", ("10.0.0.1", 80))],
)
def test_endpoints_are_split(text, pair):
    assert forms.endpoint(text) == pair


@pytest.mark.parametrize(
    "text", ["", ":", "a", "a:", ":1", "a:0", "a:65536", "a:-1", "a:٣", "::1:80", "[::1]", "a b:1", "1.2.3:4"]
)
def test_what_is_no_endpoint_is_refused(text):
    with pytest.raises(ValueError):
        forms.endpoint(text)


def test_the_settings_are_cheap_to_import():
    code = "import sys, kubeedge.config.edge; print(sorted({'yaml','asyncio','ssl','cryptography'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_network_of_one_tenant_is_written_with_its_name() -> None:
    forms.tenant_network("shop=10.112.0.0/16")
    for text in ("10.112.0.0/16", "=10.112.0.0/16", "shop=10.112.0.1/16", "shop="):
        with pytest.raises(ValueError, match="is not"):
            forms.tenant_network(text)
