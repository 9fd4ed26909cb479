"""A program in a pod at the edge uses the API of an unmodified cluster: with its token and RBAC, and reads offline with the rights last known."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api import keys, service_accounts
from tests.kit.cluster.site import Site
from tests.kit.topology import CommandFailed, until
from tests.kubernetes.workloads import eventually, pod, wait_ready
from tests.netns.test_service_accounts import CLIENT

pytestmark = pytest.mark.root

RBAC = "rbac.authorization.k8s.io"
WHERE = Path("var/run/secrets/kubernetes.io/serviceaccount")
MARK = "8765432"


def may_read() -> list[dict[str, Any]]:
    """An account with a Role, and what it may read."""
    rules = [{"apiGroups": [""], "resources": ["pods", "configmaps"], "verbs": ["get", "list", "watch"]}]
    name = {"name": "robot", "namespace": "default"}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": name},
        {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": name, "rules": rules},
        {
            "apiVersion": f"{RBAC}/v1", "kind": "RoleBinding", "metadata": name,
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "robot"},
            "subjects": [{"kind": "ServiceAccount", **name}],
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web", "namespace": "default"}, "data": {"a": "1"}},
    ]  # fmt: skip


class Program:
    """In the network of the pod, with its variables; `token` instead of its own."""

    def __init__(self, site: Site) -> None:
        self.pid = site.edges["edge1"].process(b"sleep\0" + MARK.encode())  # Ready is about a shell that becomes it
        self.files = Path(f"/proc/{self.pid}/root") / WHERE
        environment = (Path(f"/proc/{self.pid}/environ")).read_bytes().decode().split("\0")
        self.variables = [text for text in environment if text.startswith("KUBERNETES_SERVICE_")]

    def run(self, directory: Path | None = None) -> dict[str, Any]:
        """What it hears, by question: a value, or the status of a refusal. Raises CommandFailed when it has not heard all."""
        command = ["nsenter", "-t", str(self.pid), "-n", "env", *self.variables, sys.executable, "-c", CLIENT]
        done = subprocess.run(
            [*command, str(directory or self.files)], capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode:
            raise CommandFailed(done.stderr)
        return dict(json.loads(done.stdout))

    def with_token(self, directory: Path, token: str) -> dict[str, Any]:
        """With that token, and what its pod trusts."""
        directory.mkdir(exist_ok=True)
        (directory / "token").write_text(token)
        (directory / "ca.crt").write_bytes((self.files / "ca.crt").read_bytes())
        return self.run(directory)


def test_a_program_lists_with_its_token_and_reads_offline_what_its_account_may(site: Site, tmp_path: Path) -> None:
    cluster = site.cluster
    cluster.apply(*may_read())
    client = pod("client", command=f"exec sleep {MARK}", serviceAccountName="robot")
    client["spec"]["volumes"] = [{"name": "web", "configMap": {"name": "web"}}]
    client["spec"]["containers"][0]["volumeMounts"] = [{"name": "web", "mountPath": "/web"}]
    cluster.apply(client, pod("elsewhere", "edge2"))
    wait_ready(site, "client")
    wait_ready(site, "elsewhere")
    program = Program(site)
    refused = {"secrets": 403, "nodes": 403, "create": 403}
    online: dict[str, Any] = {}

    def answers() -> bool:
        """The cluster, and not the node instead of one that is slow: it says what may be written."""
        online.update(program.run())
        return online == {"pods": online["pods"], "web": "1", **refused}

    until(answers, what="answers of the cluster", interval=0.5)
    assert {"client", "elsewhere"} <= set(online["pods"])  # all of the cluster's
    # another token of the same account, and one of another: as good and as bad as in the cluster
    another = cluster.kubectl("create", "token", "robot").strip()
    cluster.kubectl("create", "serviceaccount", "unused")  # by any pod
    foreign = cluster.kubectl("create", "token", "unused").strip()
    until(
        lambda: _but_pods(program.with_token(tmp_path / "t", another)) == _but_pods(online),
        what="the same for another token of the account",
        interval=0.5,
    )
    until(
        lambda: program.with_token(tmp_path / "t", foreign)["pods"] == 403, what="another account's token", interval=0.5
    )
    eventually(
        lambda: _has_keys(site.directory / "edge1/var/lib/kubeedge/edge/edge.db"), "the issuer's keys are at the node"
    )

    site.nats["edge1"].cut()
    try:
        until(lambda: program.run()["create"] == 503, what="the node answers instead", interval=0.5)
        offline = program.run()
        assert offline["web"] == "1" and offline["secrets"] == offline["nodes"] == 403
        assert "client" in offline["pods"] and "elsewhere" not in offline["pods"]  # what this node has
        assert _but_pods(program.with_token(tmp_path / "t", another)) == _but_pods(offline)
        forged = another[:-6] + ("AAAAAA" if not another.endswith("AAAAAA") else "BBBBBB")
        for bad in (foreign, forged):
            assert set(program.with_token(tmp_path / "t", bad).values()) == {401}
    finally:
        site.nats["edge1"].heal()
    until(lambda: program.run()["create"] == 403, what="the cluster answers again", interval=0.5)
    cluster.kubectl("delete", "rolebinding", "robot")
    until(lambda: program.run()["web"] == 403, what="the right is gone", interval=0.5)
    cluster.kubectl("delete", "pod", "client", "elsewhere", timeout=90)


def _but_pods(heard: dict[str, Any]) -> dict[str, Any]:
    """Whether pods are listed at all: those of another test may be going."""
    return {**heard, "pods": "client" in heard["pods"] if isinstance(heard["pods"], list) else heard["pods"]}


def _has_keys(store: Path) -> bool:
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        key = keys.desired(service_accounts.KEYS, "", service_accounts.ISSUER_KEYS)
        return connection.execute("SELECT 1 FROM history WHERE key = ?", (key,)).fetchone() is not None
