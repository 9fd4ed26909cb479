"""A program in a pod uses the Kubernetes API with its token: Kubernetes' own Python client, in the network of a real container."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeedge.appengine.runtime import cgroups
from tests.kit.topology import DEFAULT_TIMEOUT, CommandFailed, Topology, until
from tests.netns.test_join import PREFIX
from tests.netns.test_metaserver import EdgeSite

pytestmark = pytest.mark.root

MANIFEST = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot, annotations: {kubeedge.io/access: view}}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  nodeName: edge1
  serviceAccountName: robot
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: demo:1
    command: [sh, -c, "echo $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT; ls /var/run/secrets/kubernetes.io/serviceaccount; exec sleep 7654321"]
"""

#: what a program in the pod does; its files are the pod's, its interpreter is ours
CLIENT = """
import json, os, sys
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from kubernetes.config.incluster_config import InClusterConfigLoader

directory = sys.argv[1]
InClusterConfigLoader(directory + "/token", directory + "/ca.crt").load_and_set()
api = client.CoreV1Api()
found = {}
def ask(name, call):
    try:
        found[name] = call()
    except ApiException as exc:
        found[name] = exc.status
ask("pods", lambda: sorted(pod.metadata.name for pod in api.list_namespaced_pod("default").items))
ask("web", lambda: api.read_namespaced_config_map("web", "default").data["a"])
ask("secrets", lambda: len(api.list_namespaced_secret("default").items))
ask("nodes", lambda: len(api.list_node().items))
ask("create", lambda: api.create_namespaced_config_map("default", client.V1ConfigMap(metadata=client.V1ObjectMeta(name="x"))).kind)
print(json.dumps(found))
"""


class PodSite(EdgeSite):
    """With a pod whose account may read."""

    def begin(self) -> None:
        super().begin()
        self.kubectl("apply", "-f", "-", input=MANIFEST)
        until(lambda: "token" in self.log().split("\n"), what="the client's pod has said all")

    def log(self) -> str:
        done = self.asked("logs", "client")
        return done.stdout if done.returncode == 0 else ""

    def token(self) -> str:
        return (self.files / "token").read_text()

    @property
    def files(self) -> Path:
        """As its container sees them."""
        return Path(f"/proc/{self.pid()}/root/var/run/secrets/kubernetes.io/serviceaccount")

    def pid(self) -> int:
        """Of the container's process."""
        return self.machine.process(b"sleep\x007654321")

    def client(self) -> dict[str, Any]:
        """What a program in the pod's network hears, with the pod's variables."""
        host, port = self.log().split("\n")[0].split()
        command = [
            "nsenter",
            "-t",
            str(self.pid()),
            "-n",
            "env",
            f"KUBERNETES_SERVICE_HOST={host}",
            f"KUBERNETES_SERVICE_PORT={port}",
        ]
        done = subprocess.run(
            [*command, sys.executable, "-c", CLIENT, str(self.files)],
            capture_output=True,
            text=True,
            timeout=DEFAULT_TIMEOUT,
            check=False,
        )
        if done.returncode:
            raise CommandFailed(done.stderr)
        return dict(json.loads(done.stdout))


@pytest.fixture
def site(topology: Topology) -> Iterator[PodSite]:
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))  # not tmp_path: the path of a socket must be short
    try:
        site = PodSite(topology, directory)
        site.begin()
        yield site
    finally:
        topology.__exit__()
        cgroups.kill_and_remove(PREFIX)
        shutil.rmtree(directory, ignore_errors=True)


def test_a_program_in_a_pod_uses_the_api_online_and_reads_offline_with_one_token(site: PodSite) -> None:
    said = site.log().split("\n")
    assert said[0] == "100.64.0.1 10551" and said[1:4] == ["ca.crt", "namespace", "token"]
    token = site.token()
    online = {"pods": ["client", "sleeper"], "web": "1", "secrets": 403, "nodes": 403, "create": 403}
    until(lambda: site.client() == online, what="answers of the cloud: where it is slow, the node answers")
    # a change that only the cloud knows of tells who answers
    site.kubectl("annotate", "serviceaccount", "robot", "kubeedge.io/access=edit", "--overwrite")
    site.cut()
    until(lambda: site.client()["create"] == 503, what="the node answers instead of the cloud")
    offline = site.client()
    assert offline["pods"] == ["client", "sleeper"] and offline["web"] == "1" and offline["nodes"] == 403
    # a power cut, still without the cloud
    site.machine.signal(site.agent, 9)
    site.agent.wait(90)
    site.start_again()
    until(lambda: site.client()["pods"] == ["client", "sleeper"], what="the node answers again")
    assert site.token() == token or site.client()["web"] == "1"
    site.heal()
    until(lambda: site.client()["create"] in ("ConfigMap", 409), what="the cloud answers again")
    # the pod goes, and what it had opens nothing
    directory = site.directory / "kept"
    shutil.copytree(site.files, directory, symlinks=False)
    site.kubectl("delete", "pod", "client", "--wait=true", "--timeout=80s")
    config = site.directory / "state/kubeconfig-default"
    server = json.loads(config.read_text())["clusters"][0]["cluster"]["server"]
    stolen = (
        "--kubeconfig=/dev/null",
        f"--server={server}",
        "--insecure-skip-tls-verify",
        f"--token={(directory / 'token').read_text()}",
    )
    with pytest.raises(Exception, match="Unauthorized"):
        site.kubectl(*stolen, "get", "pods")
