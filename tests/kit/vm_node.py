"""A node of a real cluster that is no edge node: the AppEngine alone, told by the API server what to run. For pods of the cloud side.

    python -m tests.kit.vm_node '{"kubeconfig": ..., "node": "vm1", "address": ..., "root": ..., "cgroup": ...}'

It does what a test needs of a kubelet and no more: pods with their ConfigMaps and Secrets, status, deletion, by polling with its own
identity; logs and exec are the AppEngine's own (tests/kit/engine_host.py). It prints "ready" once; it ends with its host.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any

from kubeedge.errors import KubeEdgeError, NotFound
from kubeedge_cloud.install.cluster import TargetCluster

_POLL = 0.2  # seconds
_HEARTBEAT = 5.0  # seconds
_MERGE = "application/merge-patch+json"


class VmNode:
    def __init__(self, config: dict[str, Any]) -> None:
        self.name, self.address, self.pod_cidr = config["node"], config["address"], config["pod_cidr"]
        self.cluster = TargetCluster(Path(config["kubeconfig"]))
        self.engine = subprocess.Popen(
            [sys.executable, "-m", "tests.kit.engine_host", json.dumps(config)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.told: dict[str, str] = {}  # key -> what the engine was told
        self.running: dict[str, str] = {}  # key of a pod -> its uid
        self.ended: set[str] = set()
        self.tokens: dict[str, dict[str, Any]] = {}  # uid of a pod -> a Secret with the token of its account

    def run(self) -> None:
        assert self.engine.stdout
        while not json.loads(self.engine.stdout.readline()).get("ready"):
            pass
        self._register()
        print("ready", flush=True)
        for work in (self._report, self._keep_ready):
            threading.Thread(target=work, daemon=True).start()
        while self.engine.poll() is None:
            try:
                self._sync()
            except KubeEdgeError as exc:
                print(exc, file=sys.stderr, flush=True)
            time.sleep(_POLL)

    def _register(self) -> None:
        spec = {"podCIDR": self.pod_cidr, "podCIDRs": [self.pod_cidr]}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name}, "spec": spec}
        self.cluster.request("POST", "/api/v1/nodes", node)
        quantities = {"cpu": "2", "memory": "4Gi", "pods": "20", "ephemeral-storage": "10Gi"}
        self._patch_status(
            capacity=quantities, allocatable=quantities, conditions=[_ready()],
            addresses=[{"type": "InternalIP", "address": self.address}, {"type": "Hostname", "address": self.address}],
            daemonEndpoints={"kubeletEndpoint": {"Port": 10250}},
        )  # fmt: skip

    def _keep_ready(self) -> None:
        """A node that says nothing for 50 s is tainted, and nothing is scheduled to it."""
        while True:
            time.sleep(_HEARTBEAT)
            try:
                self._patch_status(conditions=[_ready()])
            except KubeEdgeError as exc:
                print(exc, file=sys.stderr, flush=True)

    def _sync(self) -> None:
        listed = self.cluster.request("GET", "/api/v1/pods", fieldSelector=f"spec.nodeName={self.name}")["items"]
        wanted: dict[str, Any] = {}
        for pod in listed:
            namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
            key = f"/desired/pods/{namespace}/{name}"
            self.running[key] = pod["metadata"]["uid"]
            if pod["metadata"].get("deletionTimestamp"):
                if key in self.ended or key not in self.told:
                    self._gone(key, namespace, name)
                continue
            self._bind_volumes(pod)
            for resource, other in _references(pod["spec"]):
                data = self.cluster.request("GET", f"/api/v1/namespaces/{namespace}/{resource}/{other}")
                wanted[f"/desired/{resource}/{namespace}/{other}"] = data
            wanted[key] = self._with_account({k: v for k, v in pod.items() if k != "status"}, wanted)
        for key in sorted(wanted, key=lambda key: "/pods/" in key):  # what a pod refers to is there before it
            text = json.dumps(wanted[key] if "/pods/" not in key else _without_versions(wanted[key]))
            if self.told.get(key) != text:
                self.told[key] = text
                self._tell(put=key, value=json.loads(text))
        for key in [key for key in self.told if key not in wanted and "/pods/" in key and key not in self.ended]:
            self._tell(delete=key)

    def _bind_volumes(self, pod: dict[str, Any]) -> None:
        """A claim is the directory of the volume that it is bound to, of the kind hostPath."""
        claims = f"/api/v1/namespaces/{pod['metadata']['namespace']}/persistentvolumeclaims"
        for volume in pod["spec"].get("volumes", ()):
            if claimed := volume.pop("persistentVolumeClaim", None):
                claim = self.cluster.request("GET", f"{claims}/{claimed['claimName']}")
                bound = self.cluster.request("GET", f"/api/v1/persistentvolumes/{claim['spec']['volumeName']}")
                volume["hostPath"] = bound["spec"]["hostPath"]

    def _with_account(self, pod: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
        """A token of its service account, and where the API server is; the engine alone has neither."""
        namespace, uid = pod["metadata"]["namespace"], pod["metadata"]["uid"]
        secret = f"token-{uid}"
        for volume in pod["spec"].get("volumes", ()):
            for n, part in enumerate(volume.get("projected", {}).get("sources", ())):
                if "serviceAccountToken" in part:
                    key = f"/desired/secrets/{namespace}/{secret}"
                    wanted[key] = self.tokens.get(uid) or self.tokens.setdefault(uid, self._token(pod))
                    item = {"key": "token", "path": part["serviceAccountToken"]["path"]}
                    volume["projected"]["sources"][n] = {"secret": {"name": secret, "items": [item]}}
        host = urllib.parse.urlsplit(self.cluster.server)
        where = {"KUBERNETES_SERVICE_HOST": host.hostname, "KUBERNETES_SERVICE_PORT": str(host.port)}
        for container in pod["spec"]["containers"]:
            container["env"] = [*({"name": k, "value": v} for k, v in where.items()), *container.get("env", ())]
        return pod

    def _token(self, pod: dict[str, Any]) -> dict[str, Any]:
        namespace, account = pod["metadata"]["namespace"], pod["spec"]["serviceAccountName"]
        bound = {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        spec = {"expirationSeconds": 3600, "boundObjectRef": bound}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        answer = self.cluster.request("POST", path, {"spec": spec})
        return {"data": {"token": base64.b64encode(answer["status"]["token"].encode()).decode()}}

    def _gone(self, key: str, namespace: str, name: str) -> None:
        self.told.pop(key, None)
        self.ended.discard(key)
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.running.pop(key)}}
        try:
            self.cluster.request("DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}", body)
        except NotFound:
            pass

    def _report(self) -> None:
        assert self.engine.stdout
        for line in self.engine.stdout:
            message = json.loads(line)
            key = message.get("key", "")
            if not key.startswith("/reported/pods/"):
                continue
            desired = key.replace("/reported/", "/desired/", 1)
            if message["value"] is None:
                self.ended.add(desired)
                continue
            namespace, name = key.split("/")[3:5]
            body = {"metadata": {"uid": self.running[desired]}, "status": message["value"].get("status", {})}
            try:
                self._patch(f"/api/v1/namespaces/{namespace}/pods/{name}/status", body)
            except KubeEdgeError as exc:
                print(exc, file=sys.stderr, flush=True)

    def _patch_status(self, **status: Any) -> None:
        self._patch(f"/api/v1/nodes/{self.name}/status", {"status": status})

    def _patch(self, path: str, body: dict[str, Any]) -> None:
        self.cluster.request("PATCH", path, body, content_type=_MERGE)

    def _tell(self, **command: Any) -> None:
        assert self.engine.stdin
        self.engine.stdin.write(json.dumps(command) + "\n")
        self.engine.stdin.flush()


def _ready() -> dict[str, Any]:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now}


def _references(spec: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for volume in spec.get("volumes", ()):
        for part in (volume, *volume.get("projected", {}).get("sources", ())):
            if "configMap" in part:
                found.append(("configmaps", part["configMap"]["name"]))
            elif "secret" in part:
                found.append(("secrets", part["secret"].get("secretName") or part["secret"]["name"]))
    return found


def _without_versions(pod: dict[str, Any]) -> dict[str, Any]:
    metadata = {k: v for k, v in pod["metadata"].items() if k not in ("resourceVersion", "managedFields")}
    return {**pod, "metadata": metadata}


if __name__ == "__main__":
    VmNode(json.loads(sys.argv[1])).run()
