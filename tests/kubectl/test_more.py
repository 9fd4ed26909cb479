"""The verbs around the demo: run, expose, edit, auth, namespaces, templates, logs of a deployment."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import threading
from pathlib import Path

from kubeedge.api.resources import DEPLOYMENTS, NAMESPACES, NODES, PODS, REPLICASETS
from tests.kubectl.conftest import Cluster, Kubectl
from tests.kubectl.test_verbs import MANIFEST, poll, start_pod


def test_run_and_expose(kubectl: Kubectl, namespace: str) -> None:
    kubectl("run", "one", "--image=busybox:1", "--port=80", "--labels=app=one", "-n", namespace, "--", "httpd", "-f")
    found = json.loads(kubectl("get", "pod", "one", "-n", namespace, "-o", "json"))
    assert found["spec"]["containers"][0]["args"] == ["httpd", "-f"]
    kubectl("expose", "pod", "one", "--port=80", "--name=svc", "-n", namespace)
    service = json.loads(kubectl("get", "svc", "svc", "-n", namespace, "-o", "json"))
    assert service["spec"]["selector"] == {"app": "one"} and service["spec"]["clusterIP"].startswith("10.")
    assert "80/TCP" in kubectl("get", "svc", "-n", namespace)
    assert kubectl("create", "configmap", "c", "--dry-run=client", "-o", "name") == "configmap/c\n"


def test_edit_saves_what_the_editor_wrote(kubectl: Kubectl, namespace: str, tmp_path: Path) -> None:
    kubectl("apply", "-n", namespace, "-f", "-", stdin=MANIFEST)
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nexec sed -i "s/replicas: 2/replicas: 6/" "$1"\n')
    editor.chmod(0o755)
    done = subprocess.run(
        [str(kubectl.binary), "edit", "deploy/web", "-n", namespace],
        env={**kubectl.environment, "KUBE_EDITOR": str(editor)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert "edited" in done.stdout, done.stdout + done.stderr
    assert kubectl("get", "deploy", "web", "-n", namespace, "-o", "go-template={{.spec.replicas}}") == "6"


def test_a_drain_that_is_a_dry_run_ends_and_evicts_nothing(kubectl: Kubectl, cluster: Cluster, namespace: str) -> None:
    node = f"n{os.urandom(4).hex()}"
    cluster.call(cluster.registry.create(NODES, "", {"metadata": {"name": node}}))
    start_pod(cluster, namespace, "one", node)
    before = cluster.call(cluster.registry.get(PODS, namespace, "one"))
    done = kubectl.run("drain", node, "--dry-run=server", "--force")
    assert done.returncode == 0 and "one (server dry run)" in done.stdout, done.stdout + done.stderr
    assert cluster.call(cluster.registry.get(PODS, namespace, "one")) == before
    with kubectl.started("drain", node, "--force") as process:  # it waits for a node that is not there
        poll(lambda: "deletionTimestamp" in kubectl("get", "pod", "one", "-n", namespace, "-o", "json"))
        assert process.poll() is None
    cluster.call(cluster.registry.delete(PODS, namespace, "one", grace_period=0))


def test_auth_says_yes(kubectl: Kubectl) -> None:
    assert kubectl("auth", "can-i", "create", "deployments").strip() == "yes"


def test_deleting_a_namespace_waits_for_its_content(kubectl: Kubectl, cluster: Cluster) -> None:
    name = f"t{os.urandom(4).hex()}"
    kubectl("create", "namespace", name)
    kubectl("create", "configmap", "c", "-n", name)
    with kubectl.started("delete", "namespace", name) as process:
        poll(lambda: "Terminating" in kubectl("get", "ns", name))
        assert "is being terminated" in kubectl.fails("create", "configmap", "d", "-n", name)
        kubectl("delete", "configmap", "c", "-n", name)
        cluster.call(cluster.registry.delete(NAMESPACES, "", name))  # as the namespace controller does
        output, _ = process.communicate(timeout=90)
        assert process.returncode == 0 and "deleted" in output
    assert "is forbidden: this namespace may not be deleted" in kubectl.fails("delete", "namespace", "kube-system")


def test_logs_of_a_deployment_come_from_one_of_its_pods(kubectl: Kubectl, cluster: Cluster, namespace: str) -> None:
    kubectl("apply", "-n", namespace, "-f", "-", stdin=MANIFEST)
    deployment = cluster.call(cluster.registry.get(DEPLOYMENTS, namespace, "web"))
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": deployment["metadata"]["uid"]}
    replicaset = {
        "metadata": {
            "name": "web-1",
            "labels": {"app": "web"},
            "annotations": {"deployment.kubernetes.io/revision": "1"},
            "ownerReferences": [{**owner, "controller": True}],
        },
        "spec": {key: deployment["spec"][key] for key in ("selector", "template", "replicas")},
    }
    cluster.call(cluster.registry.create(REPLICASETS, namespace, replicaset))
    start_pod(cluster, namespace, "web-1-x", app="web")
    assert kubectl("logs", "deploy/web", "-n", namespace).endswith("line 2\n")
    assert "1" in kubectl("rollout", "history", "deploy/web", "-n", namespace)
    assert "web-1" in kubectl("describe", "deploy", "web", "-n", namespace)
    kubectl("delete", "deploy", "web", "-n", namespace, "--cascade=orphan")
    orphan = cluster.call(cluster.registry.get(REPLICASETS, namespace, "web-1"))
    assert "ownerReferences" not in orphan["metadata"]


def test_describe_of_the_other_kinds(kubectl: Kubectl, namespace: str) -> None:
    kubectl("apply", "-n", namespace, "-f", "-", stdin=MANIFEST)
    kubectl("create", "secret", "generic", "s", "--from-literal=key=value", "-n", namespace)
    assert "8080/TCP" in kubectl("describe", "svc", "web", "-n", namespace)
    assert "colour" in kubectl("describe", "cm", "settings", "-n", namespace)
    assert "5 bytes" in kubectl("describe", "secret", "s", "-n", namespace)
    assert "Active" in kubectl("describe", "ns", namespace)


def test_a_watch_of_one_object_goes_on_after_it(kubectl: Kubectl, cluster: Cluster, namespace: str) -> None:
    start_pod(cluster, namespace, "one")
    changes = itertools.count()

    def changed() -> bool:
        # kubectl drops the first event of such a watch, so one change alone could be missed
        label = {"metadata": {"labels": {"n": str(next(changes))}}}
        cluster.call(cluster.registry.merge_patch(PODS, namespace, "one", label))
        return len(lines) >= 2

    with kubectl.started("get", "pod", "one", "-n", namespace, "-w", "-o", "name") as process:
        lines: list[str] = []
        assert process.stdout is not None
        reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")))  # type: ignore[union-attr]
        reader.start()
        try:
            poll(lambda: lines)
            poll(changed)
        finally:
            process.kill()
            reader.join(60)
    assert set(lines) == {"pod/one\n"}
