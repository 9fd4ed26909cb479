"""What people do with kubectl at a node or a pod that does not work as it should: debug, proxy, and exec over a line that is cut."""

from __future__ import annotations

import re
import subprocess
import time

import pytest

from tests.kit.cluster.site import IMAGE, Site
from tests.kubernetes.workloads import eventually, pod, wait_ready
from tests.netns.test_streams import lines_until

pytestmark = pytest.mark.root

_PORT = "18001"
_GET = "import sys, urllib.request as r; sys.stdout.write(r.urlopen(sys.argv[1], timeout=30).read().decode())"


def test_debug_of_a_node_sees_its_machine(site: Site) -> None:
    """The file is the machine's, by /host; where it is on a node of a user it is /etc/kubeedge/node.json."""
    file = f"/host{site.directory}/edge1/etc/kubeedge/node.json"
    said = site.cluster.kubectl("debug", "node/edge1", f"--image={IMAGE}", "--profile=general", "--", "cat", file)
    found = re.search(r"node-debugger-edge1-\w+", said)
    assert found, said
    done = "--for=jsonpath={.status.phase}=Succeeded"
    site.cluster.kubectl("wait", done, f"pod/{found[0]}", "--timeout=120s", timeout=150)
    cidr = site.cluster.json("get", "node", "edge1")["spec"]["podCIDR"]
    eventually(lambda: cidr in site.cluster.kubectl("logs", found[0]), "what the machine has")
    site.cluster.kubectl("delete", "pod", found[0], timeout=150)


def test_debug_of_a_pod_sees_its_processes_and_leaves_them(site: Site) -> None:
    site.cluster.apply(pod("looked-at", command="exec sleep 96123"))
    wait_ready(site, "looked-at")
    inside = (f"--image={IMAGE}", "--profile=general", "--container=look", "--target=c", "--attach=false")
    site.cluster.kubectl("debug", "looked-at", *inside, "--", "cat", "/proc/1/cmdline")
    eventually(
        lambda: "96123" in site.cluster.kubectl("logs", "looked-at", "-c", "look", check=False), "the pod's process 1"
    )
    status = wait_ready(site, "looked-at")["status"]
    assert [c["restartCount"] for c in status["containerStatuses"]] == [0]
    eventually(
        lambda: (
            "terminated"
            in site.cluster.json("get", "pod", "looked-at")["status"]["ephemeralContainerStatuses"][0]["state"]
        ),
        "how the container ended that was added",
    )
    site.cluster.kubectl("delete", "pod", "looked-at", timeout=150)


def test_proxy_reaches_a_pod_a_service_and_a_node(site: Site) -> None:
    command = "mkdir /tmp/www; echo from the edge > /tmp/www/page; exec httpd -f -p 8080 -h /tmp/www"
    service = {"selector": {"app": "served"}, "ports": [{"port": 80, "targetPort": 8080}]}
    site.cluster.apply(
        pod("served", command=command),
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "served"}, "spec": service},
    )
    wait_ready(site, "served")
    proxy = site.cloud.spawn(*site.cluster.kubectl_command("proxy", f"--port={_PORT}"))
    try:

        def get(path: str) -> str:
            return site.cloud.run("/usr/bin/python3", "-c", _GET, f"http://127.0.0.1:{_PORT}{path}", check=False)

        for path, text in (
            ("/api/v1/namespaces/default/pods/served:8080/proxy/page", "from the edge\n"),
            ("/api/v1/namespaces/default/services/served:80/proxy/page", "from the edge\n"),
            ("/api/v1/nodes/edge1/proxy/healthz", "ok"),
        ):
            eventually(lambda path=path, text=text: get(path).startswith(text), path)  # type: ignore[misc]
    finally:
        site.cloud.stop(proxy)
    site.cluster.kubectl("delete", "pod/served", "service/served", timeout=150)


def test_an_exec_goes_on_after_a_cut_in_its_middle(site: Site) -> None:
    site.cluster.apply(pod("talked-to"))
    wait_ready(site, "talked-to")
    argv = site.cluster.kubectl_command("exec", "-i", "talked-to", "--", "sh", "-c", "echo begun; cat; exit 5")
    running = subprocess.Popen(site.cloud.command(*argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert running.stdin and running.stdout
        lines_until(running.stdout, b"begun")
        site.nats["edge1"].cut()
        try:
            running.stdin.write(b"said while the line was cut\n")
            running.stdin.flush()
            time.sleep(5)  # the length of the cut
        finally:
            site.nats["edge1"].heal()
        lines_until(running.stdout, b"said while the line was cut")
        running.stdin.write(b"and afterwards\n")
        running.stdin.close()
        running.stdin = None  # it is closed
        lines_until(running.stdout, b"and afterwards")
        assert running.wait(120) == 5
    finally:
        running.kill()
        running.communicate(timeout=60)
    site.cluster.kubectl("delete", "pod", "talked-to", timeout=150)
