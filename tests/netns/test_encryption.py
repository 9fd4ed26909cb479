"""Encryption at rest, seen from the disk: real cloud, real agent, real containers, kubectl on both sides; with the key, without it, with it again."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeedge.appengine.runtime import cgroups
from tests.kit.topology import Topology, until
from tests.netns.test_join import KUBEEDGE, PREFIX
from tests.netns.test_metaserver import EdgeSite

pytestmark = pytest.mark.root

TEXTS = {name: f"text-of-{name}-that-is-secret" for name in ("first", "second", "edge", "third")}
READER = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "reader"},
    "spec": {
        "nodeName": "edge1", "terminationGracePeriodSeconds": 0,
        "volumes": [{"name": "v", "secret": {"secretName": "db"}}],
        "containers": [{
            "name": "c", "image": "demo:1", "command": ["sh", "-c", "echo up; sleep 1001"],
            "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}],
            "volumeMounts": [{"name": "v", "mountPath": "/secret"}],
        }],
    },
}  # fmt: skip


def secret(text: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "db", "annotations": {"kubeedge.io/edge-writes": "allow"}},
        "data": {"password": b64encode(text.encode()).decode()},
    }


class EncryptedSite(EdgeSite):
    """Both sides encrypt, with keys of their own on media of their own."""

    def begin(self) -> None:
        self.keys = self.directory / "stick"
        self.keys.mkdir()
        self.key, cloud_key = self.keys / "edge", self.keys / "cloud"
        for path in (self.key, cloud_key):
            self.machine.run(*KUBEEDGE, "secrets-key", "generate", str(path), "--root-dir", str(self.root))
        config = self.directory / "cloud.yaml"
        config.write_text(f"{config.read_text()}secretsEncryption: {{enable: true, keyFile: {cloud_key}}}\n")
        self.restart_cloud()
        super().begin()

    def join(self, *more: str) -> str:
        said = super().join(*more)
        config = self.root / "etc/kubeedge/kubeedge.yaml"
        head, name, tail = config.read_text().partition("secretsEncryption:")
        assert name, head
        tail = tail.replace("enable: false", "enable: true", 1).replace("keyFile: null", f"keyFile: {self.key}", 1)
        config.write_text(head + name + tail)
        return said

    def cut(self) -> None:
        """In both directions: a write that the cloud only hears of, it merges."""
        chains = "".join(
            f"chain {hook} {{ type filter hook {hook} priority 0; ip {end} 203.0.113.1 drop; }}\n"
            for hook, end in (("input", "saddr"), ("output", "daddr"))
        )
        self.machine.run("nft", "-f", "-", input=f"table ip wire {{\n{chains}}}\n")

    def plain(self) -> list[str]:
        """Files of either side's disk with a text in them, or its base64; /run and volumes of Secrets are memory."""
        wanted = [part for text in TEXTS.values() for part in (text, b64encode(text.encode()).decode())]
        patterns = [word for part in wanted for word in ("-e", part)]
        found = []
        for below in (self.root / "var", self.root / "etc", self.directory / "state"):
            out = self.machine.run(
                "sh", "-c", 'find "$0" -xdev -type f -print0 | xargs -0 grep -lsaF "$@" || true', str(below), *patterns
            )
            found += out.splitlines()
        return found

    def read(self) -> str:
        """What the pod's volume has now; "" as long as there is none."""
        for pid in self.pids("1001"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                return Path(f"/proc/{pid}/root/secret/password").read_text()
        return ""

    def pids(self, seconds: str) -> list[int]:
        return self.machine.running(f"sleep\0{seconds}".encode())

    def condition(self) -> tuple[str, str, str]:
        node = json.loads(self.kubectl("get", "node", "edge1", "-o", "json"))
        found = next((c for c in node["status"]["conditions"] if c["type"] == "SecretsEncrypted"), {})
        return found.get("status", ""), found.get("reason", ""), found.get("message", "")


@pytest.fixture
def site(topology: Topology) -> Iterator[EncryptedSite]:
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))  # not tmp_path: the path of a socket must be short
    try:
        site = EncryptedSite(topology, directory)
        site.begin()
        yield site
    finally:
        topology.__exit__()
        cgroups.kill_and_remove(PREFIX)
        shutil.rmtree(directory, ignore_errors=True)


def test_a_card_without_its_key_tells_no_secret_and_the_node_goes_on(site: EncryptedSite) -> None:
    def answered() -> bool:
        """Either way: a killed agent's socket goes on sending, so the cloud may have heard of it as soon as it could."""
        said = site.status()["writes"]
        return said["pending"] == 0 and said.get("conflict", 0) + said.get("merged", 0) == 1

    # with the key
    site.kubectl("apply", "-f", "-", input=json.dumps(secret(TEXTS["first"])))
    site.kubectl("apply", "-f", "-", input=json.dumps(READER))
    until(lambda: site.read() == TEXTS["first"], what="the pod has the Secret")
    site.kubectl("apply", "-f", "-", input=json.dumps(secret(TEXTS["second"])))
    until(lambda: site.read() == TEXTS["second"], what="the pod has the new one")
    until(lambda: site.condition()[:2] == ("True", "Encrypted"), what="the condition")
    assert site.plain() == []
    agent = site.machine.process(b"kubeedge\0edge\0")
    assert (
        "cryptography" not in Path(f"/proc/{agent}/maps").read_text()
    )  # 128 MB are not for a library that libcrypto stands in for
    site.cut()
    patch = json.dumps({"data": secret(TEXTS["edge"])["data"]})
    site.edge("patch", "secret", "db", "--type", "merge", "-p", patch)
    until(lambda: site.read() == TEXTS["edge"], what="what was written on the node")
    waiting = site.pending()
    assert waiting == 1 and site.plain() == []
    backup = site.root / "var/backup.db"
    store = str(site.root / "var/lib/kubeedge/edge/edge.db")
    site.machine.run(*KUBEEDGE, "store", "backup", str(backup), "--store", store)
    site.machine.signal(site.agent, signal.SIGKILL)  # the log stays as it is
    site.agent.wait(90)
    assert backup.stat().st_size and site.plain() == []

    # without it, and without the cloud
    site.key.rename(site.keys / "away")
    before = (site.pids("1000"), site.pids("1001"))
    assert all(before)
    site.start_again()
    status = site.status()["secretsEncryption"]
    assert status["key"] == "" and status["unreadable"] >= 2 and "No such file" in status["problem"]
    assert "not found" in site.fails("get", "secret", "db") and "Running" in site.edge("get", "pod", "sleeper")
    assert (site.pids("1000"), site.pids("1001")) == before and site.read() == TEXTS["edge"]

    # the cloud hears of it, and sends what it has; that is not plain either
    site.heal()
    until(lambda: site.condition()[:2] == ("False", "KeyMissing"), what="the condition")
    assert "until the agent starts with their key" in site.condition()[2]
    site.kubectl("apply", "-f", "-", input=json.dumps(secret(TEXTS["third"])))
    until(lambda: site.read() == TEXTS["third"], what="the pod has the newest one")
    assert (site.pids("1000"), site.pids("1001")) == before and site.plain() == []

    # with it again: the write that had waited is there
    site.machine.stop(site.agent)
    (site.keys / "away").rename(site.key)
    site.start_agent()
    until(lambda: site.condition()[:2] == ("True", "Encrypted"), what="the condition")
    until(answered, what="the answer to the write")
    until(lambda: site.read() == TEXTS["third"], what="the field as the cloud has it since")
    assert site.plain() == []


def test_a_cloud_without_its_key_says_so_and_changes_nothing(site: EncryptedSite) -> None:
    site.kubectl("apply", "-f", "-", input=json.dumps(secret(TEXTS["first"])))
    site.cloud.signal(site.process, signal.SIGTERM)
    site.process.wait(90)
    store = site.directory / "state/cloud.db"
    before = store.read_bytes()
    key = site.keys / "cloud"
    key.rename(site.keys / "away")
    with pytest.raises(RuntimeError, match=r"no key to encrypt Secrets with: .*No such file"):
        site.cloud.run(*KUBEEDGE, "cloud", "--config", str(site.directory / "cloud.yaml"))
    assert store.read_bytes() == before and site.plain() == []
    (site.keys / "away").rename(key)
    site._start_cloud()
    found = json.loads(site.kubectl("get", "secret", "db", "-o", "json"))
    assert found["data"] == secret(TEXTS["first"])["data"]
