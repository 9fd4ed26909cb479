"""The commands without a cluster: which one is meant, what keadm's flags become, a token by exec, a Deployment's readiness."""

from __future__ import annotations

import argparse
import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from websockets.sync.server import ServerConnection, serve

from kubeedge.cli import cluster, parser
from kubeedge.errors import Invalid, KubeEdgeError, NotFound, Refused, Unavailable
from kubeedge_cloud.install import commands, diagnosis, permissions, token
from kubeedge_cloud.install.apply import readiness
from kubeedge_cloud.install.cluster import TargetCluster


def parsed(*words: str, program: str = "keadm") -> argparse.Namespace:
    return parser.parser(program).parse_args(list(words))


def kubeconfig(directory: Path, server: str) -> Path:
    path = directory / "kubeconfig"
    path.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}], "users": [{"name": "c", "user": {"token": "secret-of-jane"}}],
    }))  # fmt: skip
    return path


def test_this_machine_or_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert not cluster.is_meant(parsed("init", "--advertise", "a"))
    assert not cluster.is_meant(parsed("init", "--advertise", "a"), "keadm")
    for words in (["--kube-config"], ["--kube-config", "x"], ["--context", "c"]):
        assert cluster.is_meant(parsed("init", *words))
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube/config").touch()
    assert cluster.is_meant(parsed("init"), "keadm"), "keadm's users mean the cluster"
    assert not cluster.is_meant(parsed("init")), "kubeedge's are asked to say so"
    assert parsed("reset").what == "edge", "a node with a kubeconfig resets itself, not the cluster"


def test_keadms_flags_are_values(tmp_path: Path) -> None:
    (tmp_path / "v.yaml").write_text("replicas: 2\nimage: {tag: old, pullPolicy: Never}\n")
    options = parsed(
        "init", "--kube-config", "--advertise-address", "a,b", "--kubeedge-version", "1.2", "--image-repository", "r.io/x",
        "--values", str(tmp_path / "v.yaml"), "--set", "replicas=3",
    )  # fmt: skip
    assert commands.values(options) == {
        "advertise": ["a", "b"], "replicas": 3, "image": {"tag": "1.2", "pullPolicy": "Never", "repository": "r.io/x/cloud"},
    }  # fmt: skip
    assert commands.values(parsed("init", "--profile", "version=9"))["image"] == {"tag": "9"}
    with pytest.raises(Invalid, match="--profile"):
        commands.values(parsed("init", "--profile", "mode=x"))


def test_manifests_are_printed_without_a_cluster(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: mine}}\n")
    assert commands.run(parsed("manifest", "generate", "--advertise", "a", "-f", str(tmp_path / "more.yaml"))) == 0
    found = list(yaml.safe_load_all(capsys.readouterr().out))
    assert [each["kind"] for each in found if each][-2:] == ["Deployment", "ConfigMap"]
    (tmp_path / "more.yaml").write_text("kind: x\n")
    with pytest.raises(Invalid, match="apiVersion"):
        commands.manifests([str(tmp_path / "more.yaml")])
    with pytest.raises(Invalid, match="none"):
        commands.manifests([str(tmp_path / "none")])


@pytest.mark.parametrize(
    ("status", "done"),
    [
        ({}, False),
        ({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}, False),
        ({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1}, False),
        ({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1}, False),
        ({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}, True),
    ],
)
def test_a_deployment_is_ready_when_its_newest_version_is_all_there_is(status: dict[str, int], done: bool) -> None:
    assert readiness({"metadata": {"generation": 2}, "spec": {"replicas": 1}, "status": status})[0] is done


def test_rights_with_the_same_verbs_are_named_together() -> None:
    rights = [
        (verb, group, what, where)
        for group, what, where in (("", "pods", ""), ("apps", "deployments", "k"))
        for verb in ("get", "list")
    ]
    assert permissions.summary([*rights, ("watch", "", "nodes", ""), ("get", "", "pods", "")]) == (
        "get, list on pods, deployments.apps in k; watch on nodes"
    )


def claim(name: str) -> dict[str, Any]:
    return {
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "k"},
        "status": {"phase": "Pending"},
    }


def test_rights_that_were_taken_away_are_named() -> None:
    def may(namespace: str, account: str, verb: str, group: str, resource: str, name: str) -> bool:
        assert (namespace, account) == ("k", "cloud")
        return (verb, resource, name) not in (("patch", "nodes", ""), ("impersonate", "groups", "system:nodes"))

    objects = {
        "Pod": [{"metadata": {"name": "p"}, "spec": {"serviceAccountName": "cloud"}}],
        "ConfigMap": [{"data": {"cloud.yaml": "tenants:\n- default=in-cluster\n"}}],
    }
    cluster: Any = SimpleNamespace(list=lambda version, kind, *_: objects.get(kind, []), account_may=may)
    (said,) = diagnosis.reasons(cluster, "k")
    assert said.startswith("the service account cloud may not: patch on nodes; impersonate on groups (")
    objects["ConfigMap"] = [{"data": {"cloud.yaml": "tenants: [default]"}}]
    assert diagnosis.reasons(cluster, "k") == [], "no cluster is asked for the embedded API"


@pytest.mark.parametrize("status", [{}, {"loadBalancer": {}}, {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}])
def test_a_service_that_waits_for_its_load_balancer_is_named(status: dict[str, Any]) -> None:
    service = {"metadata": {"name": "s"}, "spec": {"type": "LoadBalancer"}, "status": status}
    cluster: Any = SimpleNamespace(list=lambda version, kind, *_: [service])
    said = [*diagnosis.without_address(cluster, "k")]
    assert bool(said) is not bool(status.get("loadBalancer")) and all(
        "service s has no address" in each for each in said
    )


def test_a_claim_that_no_pod_uses_keeps_nothing_from_being_ready() -> None:
    volumes = [{"emptyDir": {}}, {"persistentVolumeClaim": {"claimName": "used"}}]
    objects = {
        "Pod": [{"metadata": {"name": "p"}, "spec": {"volumes": volumes}}],
        "PersistentVolumeClaim": [claim("used"), claim("of-earlier-values")],
    }
    cluster: Any = SimpleNamespace(list=lambda version, kind, *_: objects.get(kind, []))
    (said,) = diagnosis.reasons(cluster, "k")
    assert said.startswith("volume claim used is Pending: no event says why") and "storageClass" in said


@contextmanager
def answering(status: int, body: bytes, seen: list[str | None] | None = None) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if seen is not None:
                seen.append(self.headers["authorization"])
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Refused), (403, Refused), (404, NotFound), (422, Invalid), (500, Unavailable), (302, Unavailable)],
)
@pytest.mark.parametrize("body", [b"", b"[1]", b"\xff<html>", b'{"message": "no", "details": null}'])
def test_every_answer_is_an_error_of_ours(tmp_path: Path, status: int, kind: type[Exception], body: bytes) -> None:
    with answering(status, body) as server, contextlib.closing(TargetCluster(kubeconfig(tmp_path, server))) as asked:
        with pytest.raises(kind) as caught:
            asked.request("GET", "/version")
    assert "secret-of-jane" not in str(caught.value)


@pytest.mark.parametrize("name", ["BearerToken", "authorization"])
def test_the_token_of_a_kubeconfig_is_shown(tmp_path: Path, name: str) -> None:
    """Whatever the release of the package calls it."""
    seen: list[str | None] = []
    with (
        answering(200, b"{}", seen) as server,
        contextlib.closing(TargetCluster(kubeconfig(tmp_path, server))) as asked,
    ):
        asked.request("GET", "/version")
        asked.configuration.refresh_api_key_hook = None  # it reads the file again
        asked.configuration.api_key = {name: "Bearer another"}
        asked.request("GET", "/version")
    assert seen == ["Bearer secret-of-jane", "Bearer another"]


def test_a_kind_that_the_cluster_has_not_is_named(tmp_path: Path) -> None:
    with (
        answering(404, b"404 page not found\n") as server,
        contextlib.closing(TargetCluster(kubeconfig(tmp_path, server))) as asked,
        pytest.raises(NotFound, match="has no Foo of example.org/v1"),
    ):
        asked.path("example.org/v1", "Foo")


@pytest.mark.parametrize("major", ["1", "", "x"])
def test_an_old_cluster_is_refused(tmp_path: Path, major: str) -> None:
    body = json.dumps({"major": major, "minor": "29+", "gitVersion": "v1.29.3"}).encode()
    with answering(200, body) as server, contextlib.closing(TargetCluster(kubeconfig(tmp_path, server))) as asked:
        with pytest.raises(Invalid, match=r"1\.30 is needed"):
            asked.version()


@contextmanager
def executing(
    tmp_path: Path, out: bytes, err: bytes, result: dict[str, Any]
) -> Iterator[tuple[TargetCluster, list[str]]]:
    """An API server's exec, as far as one needs it: channels 1, 2 and 3 of v4.channel.k8s.io."""
    asked: list[str] = []

    def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        asked.append(connection.request.path)
        for channel, data in ((1, out), (2, err), (3, json.dumps(result).encode())):
            connection.send(bytes([channel]) + data)

    with serve(handler, "127.0.0.1", 0, subprotocols=["v4.channel.k8s.io"]) as server:  # type: ignore[list-item]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        found = TargetCluster(kubeconfig(tmp_path, f"http://127.0.0.1:{server.socket.getsockname()[1]}"))
        pod = {"metadata": {"name": "p"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        found.list = lambda *_: [pod]  # type: ignore[method-assign, assignment]
        try:
            yield found, asked
        finally:
            server.shutdown()
            thread.join()


def test_a_token_is_made_by_the_program_in_the_pod(tmp_path: Path) -> None:
    with executing(tmp_path, b"abc.def.123\n", b"", {"status": "Success"}) as (found, asked):
        assert token.create(found, "kubeedge", ["--node", "cam7"]) == "abc.def.123"
    assert "/namespaces/kubeedge/pods/p/exec?" in asked[0] and "command=--node&command=cam7" in asked[0]


def test_a_program_that_fails_says_why(tmp_path: Path) -> None:
    failed = {
        "status": "Failure", "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": "1"}]},
    }  # fmt: skip
    with (
        executing(tmp_path, b"", b"kubeedge token: no tenant x\nnext: make it\n", failed) as (found, _),
        pytest.raises(KubeEdgeError, match="^no tenant x\n") as caught,
    ):
        token.create(found, "kubeedge", ["--tenant", "x"])
    assert caught.value.__notes__ == ["make it"]


def test_who_may_not_run_programs_in_pods_is_told_so(tmp_path: Path) -> None:
    with answering(403, b'{"kind":"Status"}') as server:
        found = TargetCluster(kubeconfig(tmp_path, server))
        pod = {"metadata": {"name": "p"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        found.list = lambda *_: [pod]  # type: ignore[method-assign, assignment]
        with pytest.raises(Refused, match="may not run a program in pod kubeedge/p\n") as caught:
            token.create(found, "kubeedge", [])
    assert "pods/exec" in caught.value.__notes__[0]
