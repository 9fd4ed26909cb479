"""From the command to the agent: what goes along, and that the second image has not read what the first one had to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from kubeedge.cli import agent_process
from kubeedge.config import edge
from kubeedge.config.load import as_document, build


def test_settings_are_the_same_after_json() -> None:
    text = """
        node: {labels: [a=b], taints: ["c=d:NoSchedule"]}
        modules:
          hub: {keepalive: 7}
          kubebus: {relays: ["cloud.example:10010"], mtu: 1400}
          appengine:
            evictionHard: [none]
            images: {registries: [{registry: "r.example:5000", mirrors: ["m.example"], plainHttp: true}]}
        secretsEncryption: {keyFile: /k}
    """
    from kubeedge.config.load import load_text

    written = load_text(edge.EdgeConfig, text, api_version=edge.API_VERSION, kind=edge.KIND)
    for config in (edge.EdgeConfig(), edge.EdgeConfig(paths=edge.at_root(Path("/r"))), written):
        assert build(edge.EdgeConfig, json.loads(json.dumps(as_document(config)))) == config


def test_the_second_image_has_the_command_line_of_the_first_and_none_of_its_libraries(tmp_path: Path) -> None:
    root = tmp_path / "r"
    paths = edge.at_root(root)
    paths.pki.mkdir(parents=True)
    node = {
        "tenant": "default", "node": "edge1", "number": 1, "address": "100.64.0.1/16", "podCIDR": "10.244.1.0/24",
        "hub": ["127.0.0.1:1"], "relays": ["127.0.0.1:1"], "bootstrap": ["127.0.0.1:1"],
    }  # fmt: skip
    (paths.pki.parent / "node.json").write_text(json.dumps(node))
    settings = {"paths": {name: str(getattr(paths, name)) for name in ("state", "run", "pki", "logs")}}
    (paths.pki.parent / "kubeedge.yaml").write_text(json.dumps(settings))
    # the first thing that the agent does: it cannot make its state directory, where a file is
    paths.state.parent.mkdir(parents=True)
    paths.state.write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "kubeedge", "edge", "--root-dir", str(root)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"},
    )  # fmt: skip
    _, first, second = done.stderr.split("import time: self [us]")  # each image begins with these words
    assert "argparse" in first and "yaml" in first
    loaded = {line.rpartition("|")[2].strip() for line in second.splitlines()}
    assert "kubeedge.edgecore" in loaded and not loaded & {"argparse", "yaml", "email", "importlib.metadata", "uuid"}
    assert done.returncode == 1
    assert "kubeedge edge: " in done.stderr and str(paths.state) in done.stderr


def test_what_is_wrong_is_said_by_the_first_image(tmp_path: Path) -> None:
    config = tmp_path / "kubeedge.yaml"
    config.write_text("modules: {hubb: {}}")
    done = subprocess.run(
        [sys.executable, "-m", "kubeedge", "edge", "--config", str(config)], capture_output=True, text=True
    )
    assert done.returncode and "did you mean modules.hub?" in done.stderr and agent_process.HANDED not in done.stderr
