"""AppEngine with real containers: crun, conmon and CNI on a host made of namespaces."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit import images
from tests.kit.layers import Image, directory, entry, layer, link
from tests.kit.topology import Host, Topology, until

pytestmark = pytest.mark.root
ROOT = Path(__file__).parents[2]
IMAGE = "docker.io/library/demo:1"


class Engine:
    """engine_host in a host; `reported` holds the newest value of each reported key."""

    def __init__(self, host: Host, root: Path, cgroup: str) -> None:
        self.host, self.root, self.cgroup = host, root, cgroup
        self.reported: dict[str, Any] = {}
        self._answers: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self.start()

    def start(self) -> float:
        begun = time.time()
        config = {"root": str(self.root), "cgroup": self.cgroup}
        self.process = subprocess.Popen(
            self.host.command(sys.executable, "-m", "tests.kit.engine_host", json.dumps(config)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.answer("ready")
        return begun

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            message = json.loads(line)
            with self._changed:
                if "key" in message:
                    self.reported[message["key"]] = message["value"]
                else:
                    self._answers.append(message)
                self._changed.notify_all()

    def answer(self, name: str, timeout: float = 15.0) -> Any:
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for message in self._answers:
                    if name in message:
                        self._answers.remove(message)
                        return message[name]
                if self.process.poll() is not None or not self._changed.wait(deadline - time.monotonic()):
                    raise AssertionError(f"no {name!r} from the engine")

    def tell(self, **command: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def put(self, resource: str, name: str, value: dict[str, Any]) -> None:
        self.tell(put=f"/desired/{resource}/default/{name}", value=value)

    def status(self, pod: str) -> dict[str, Any]:
        return (self.reported.get(f"/reported/pods/default/{pod}") or {}).get("status", {})

    def until(
        self, pod: str, condition: Callable[[dict[str, Any]], Any], what: str, timeout: float = 20.0
    ) -> dict[str, Any]:
        deadline = time.monotonic() + timeout
        with self._changed:
            while not ((status := self.status(pod)) and condition(status)):
                if not self._changed.wait(deadline - time.monotonic()):
                    raise AssertionError(f"{what}: not within {timeout:g} s; status: {json.dumps(status)[:2000]}")
            return status

    def logs(self, pod: str, *, previous: bool = False) -> str:
        self.tell(logs=["default", pod, "main"], previous=previous)
        return str(self.answer("logs"))

    def until_logs(self, pod: str, text: str, *, previous: bool = False) -> None:
        """Ready and ended are about processes; what they print passes through conmon, which may be a moment later."""
        until(lambda: len(self.logs(pod, previous=previous)) >= len(text), timeout=10, what=f"the log of {pod}")
        assert self.logs(pod, previous=previous) == text

    def kill(self) -> None:
        """The agent alone, with SIGKILL."""
        self.host.signal(self.process, signal.SIGKILL)
        self.process.wait()
        self._thread.join(5)
        self._close_pipes()

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        self._close_pipes()

    def _close_pipes(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()


@pytest.fixture
def engine(topology: Topology, tmp_path: Path) -> Iterator[Engine]:
    root = tmp_path / "e"
    preload = root / "state/images/preload"
    preload.mkdir(parents=True)
    images.build(preload / "demo.tar", IMAGE)
    cgroup = f"kb-test-{os.getpid()}"
    engine = Engine(topology.host("edge1"), root, cgroup)
    try:
        yield engine
    finally:
        engine.close()
        engine.host.power_cut()
        for group in Path("/sys/fs/cgroup").glob(f"**/{cgroup}"):
            for path in sorted([*group.rglob("*/"), group], reverse=True):
                with contextlib.suppress(OSError):
                    path.rmdir()


def pod(name: str, command: str, uid: str = "", **spec: Any) -> dict[str, Any]:
    container = {
        "name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", command],
        **spec.pop("container", {}),
    }  # fmt: skip
    return {
        "metadata": {"name": name, "namespace": "default", "uid": uid or f"uid-{name}", "labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, **spec},
    }


def ready(status: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))


def container(status: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = status["containerStatuses"][0]
    return found


def test_a_pod_runs_with_its_config_and_goes_without_a_trace(engine: Engine) -> None:
    engine.put("configmaps", "settings", {"data": {"colour": "blue"}})
    spec = pod(
        "web",
        "echo $COLOUR $NODE; cat /config/colour; mkdir -p /www; cp /config/colour /www/; exec httpd -f -p 8080 -h /www",
        volumes=[{"name": "config", "configMap": {"name": "settings"}}],
        container={
            "env": [
                {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            ],
            "volumeMounts": [{"name": "config", "mountPath": "/config"}],
            "resources": {"limits": {"memory": "32Mi", "cpu": "500m"}},
        },
    )
    engine.put("pods", "web", spec)
    status = engine.until("web", ready, "the pod Ready")
    assert status["phase"] == "Running" and status["podIP"].startswith("10.244.1.")
    page = engine.host.run("busybox", "wget", "-qO-", f"http://{status['podIP']}:8080/colour")
    assert page == "blue"
    engine.until_logs("web", "blue edge1\nblue")
    outside = os.readlink(f"/proc/{engine.host.pid}/ns/net")
    (server,) = [p for p in engine.host.processes() if b"httpd" in Path(f"/proc/{p}/cmdline").read_bytes()]
    assert os.readlink(f"/proc/{server}/ns/net") != outside
    # the ConfigMap changes while the pod runs
    engine.put("configmaps", "settings", {"data": {"colour": "green"}})
    mounted = Path(f"/proc/{server}/root/config/colour")
    until(lambda: mounted.read_text() == "green", timeout=5, what="the new file in the container")
    # and the pod goes
    engine.tell(delete="/desired/pods/default/web")
    until(lambda: engine.reported.get("/reported/pods/default/web", 1) is None, timeout=15, what="the end of the pod")
    assert not [p for p in engine.host.processes() if b"httpd" in Path(f"/proc/{p}/cmdline").read_bytes()]
    assert "uid-web" not in engine.host.run("cat", "/proc/self/mountinfo")
    assert not list(Path("/sys/fs/cgroup").glob(f"**/{engine.cgroup}/poduid-web"))
    assert not (engine.root / "state/pods/uid-web").exists()
    assert engine.host.run("ls", str(engine.root / "run/ns")).strip() == ""


def test_a_deleted_pod_is_reported_gone_while_the_cloud_still_wants_to_know(engine: Engine) -> None:
    spec = pod("bye", "exec sleep 1000")
    engine.put("pods", "bye", spec)
    engine.until("bye", ready, "the pod Ready")
    spec["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z", deletionGracePeriodSeconds=1)
    engine.put("pods", "bye", spec)
    key = "/reported/pods/default/bye"
    until(lambda: (engine.reported.get(key) or {}).get("gone"), timeout=15, what="the report")
    assert engine.reported[key] == {"gone": True, "uid": "uid-bye"}


def test_a_container_that_fails_is_restarted_with_back_off_and_its_status_says_why(engine: Engine) -> None:
    engine.put("pods", "crash", pod("crash", "echo run; echo last words > /dev/termination-log; exit 3"))
    status = engine.until(
        "crash", lambda s: container(s)["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff", "back-off"
    )
    assert container(status)["restartCount"] == 1  # the first restart comes at once
    last = container(status)["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"], last["message"]) == (3, "Error", "last words\n")
    engine.until_logs("crash", "run\n")
    engine.until_logs("crash", "run\n", previous=True)


def test_restart_policy_never_ends_in_succeeded_or_failed(engine: Engine) -> None:
    engine.put("pods", "good", pod("good", "true", restartPolicy="Never"))
    engine.put("pods", "bad", pod("bad", "exit 4", restartPolicy="Never"))
    assert engine.until("good", lambda s: s["phase"] == "Succeeded", "Succeeded")
    status = engine.until("bad", lambda s: s["phase"] == "Failed", "Failed")
    assert container(status)["state"]["terminated"]["exitCode"] == 4


def test_the_memory_limit_kills_and_is_named(engine: Engine) -> None:
    eat = "x=a; while true; do x=$x$x; done"
    engine.put(
        "pods",
        "greedy",
        pod("greedy", eat, restartPolicy="Never", container={"resources": {"limits": {"memory": "16Mi"}}}),
    )
    status = engine.until("greedy", lambda s: s["phase"] == "Failed", "Failed", timeout=30)
    ended = container(status)["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")


def test_a_missing_image_or_configmap_is_named_and_waited_for(engine: Engine) -> None:
    engine.put("pods", "noimage", pod("noimage", "true", container={"image": "127.0.0.1:1/nothing:1"}))
    waits = lambda s: container(s)["state"].get("waiting", {})  # noqa: E731
    status = engine.until(
        "noimage", lambda s: waits(s).get("reason") in ("ErrImagePull", "ImagePullBackOff"), "ErrImagePull"
    )
    assert "127.0.0.1:1/nothing:1" in waits(status)["message"]
    spec = pod("waits", "cat /c/k; exec sleep 1000", volumes=[{"name": "c", "configMap": {"name": "late"}}],
               container={"volumeMounts": [{"name": "c", "mountPath": "/c"}]})  # fmt: skip
    engine.put("pods", "waits", spec)
    status = engine.until(
        "waits", lambda s: waits(s).get("reason") == "CreateContainerConfigError", "the missing ConfigMap"
    )
    assert 'configmap "late" not found' in waits(status)["message"]
    engine.put("configmaps", "late", {"data": {"k": "now"}})
    engine.until("waits", ready, "the pod after its ConfigMap came", timeout=8)
    until(lambda: engine.logs("waits") == "now", timeout=5, what="what it read")


def test_init_containers_run_first_and_in_order(engine: Engine) -> None:
    spec = pod("ordered", "cat /work/out; exec sleep 1000", volumes=[{"name": "w", "emptyDir": {}}],
               container={"volumeMounts": [{"name": "w", "mountPath": "/work"}]})  # fmt: skip
    spec["spec"]["initContainers"] = [
        {"name": f"i{n}", "image": IMAGE, "command": ["sh", "-c", f"echo {n} >> /work/out"],
         "volumeMounts": [{"name": "w", "mountPath": "/work"}]}
        for n in (1, 2)
    ]  # fmt: skip
    engine.put("pods", "ordered", spec)
    engine.until("ordered", ready, "the pod Ready")
    engine.until_logs("ordered", "1\n2\n")


def test_probes_decide_readiness_and_restart(engine: Engine) -> None:
    spec = pod("probed", "sleep 1; touch /ok; sleep 2; rm /ok; exec sleep 1000", container={
        "readinessProbe": {"exec": {"command": ["test", "-e", "/ok"]}, "periodSeconds": 1, "failureThreshold": 1},
        "livenessProbe": {"exec": {"command": ["test", "-e", "/ok"]}, "initialDelaySeconds": 2, "periodSeconds": 1,
                          "failureThreshold": 2},
    })  # fmt: skip
    engine.put("pods", "probed", spec)
    engine.until("probed", lambda s: container(s)["state"].get("running") and not ready(s), "running, not Ready")
    engine.until("probed", ready, "Ready once the probe succeeds")
    engine.until("probed", lambda s: container(s)["restartCount"] >= 1, "the restart by the liveness probe", timeout=20)


def test_containers_survive_a_killed_agent(engine: Engine) -> None:
    engine.put("pods", "steady", pod("steady", "echo once; exec sleep 1000"))
    before = engine.until("steady", ready, "the pod Ready")

    def sleepers() -> list[int]:
        return [p for p in engine.host.processes() if b"sleep\x001000" in Path(f"/proc/{p}/cmdline").read_bytes()]

    until(lambda: len(sleepers()) == 1, timeout=10, what="the shell to become sleep")  # Ready means that the shell runs
    (sleeper,) = sleepers()
    engine.kill()
    assert Path(f"/proc/{sleeper}").exists()
    engine.start()
    status = engine.until("steady", ready, "the same pod after the restart")
    assert container(status)["containerID"] == container(before)["containerID"]
    assert Path(f"/proc/{sleeper}").exists()
    os.kill(sleeper, signal.SIGKILL)
    status = engine.until(
        "steady", lambda s: container(s)["restartCount"] == 1 and ready(s), "the restart of the container"
    )
    assert container(status)["lastState"]["terminated"]["exitCode"] == 137


def test_pods_come_back_after_a_power_cut(engine: Engine) -> None:
    for n in range(3):
        engine.put("pods", f"p{n}", pod(f"p{n}", "echo up; exec sleep 1000"))
    for n in range(3):
        engine.until(f"p{n}", ready, f"pod {n} Ready")
    assert engine.host.power_cut() >= 7
    engine.close()
    engine.reported.clear()
    begun = engine.start()
    for n in range(3):
        status = engine.until(f"p{n}", lambda s: ready(s) and container(s)["restartCount"] == 1, f"pod {n} again")
        assert status["podIP"]
    print(f"three pods were back {time.time() - begun:.2f} s after the start of the agent")

    def sleepers() -> list[int]:
        return [p for p in engine.host.processes() if b"sleep\x001000" in Path(f"/proc/{p}/cmdline").read_bytes()]

    until(lambda: len(sleepers()) == 3, timeout=10, what="the shells to become sleep")  # Ready means that they run


def test_a_pod_that_cannot_be_understood_fails_with_the_path(engine: Engine) -> None:
    spec = pod("broken", "true")
    spec["spec"]["containers"][0]["command"] = "not a list"
    engine.put("pods", "broken", spec)
    status = engine.until("broken", lambda s: s["phase"] == "Failed", "Failed")
    assert "spec.containers[0].command" in status["message"]


def test_an_image_of_several_layers_and_volumes_is_as_it_was_built(engine: Engine) -> None:
    """Its layers hide each other's files, go through links of one another, and name volumes; a read-only root leaves those writable."""
    data = directory("data/db")
    data[0].mode, data[0].uid, data[0].gid = 0o750, 65534, 65534
    layers = [
        layer(
            data, entry("data/db/seed", b"seed"), directory("usr/lib"), link("lib", "usr/lib"), entry("usr/lib/a", b"a")
        ),
        layer(entry("lib/b", b"b"), entry("app/old", b"old")),
        layer(entry("app/new", b"new"), entry(".wh.app"), link("app/hard", "usr/lib/a", tarfile.LNKTYPE)),
    ]
    config = {"Volumes": {"/data/db": {}, "/made": {}, "/lib/../app/deep/": {}}}
    archive = images.build(engine.root / "i.tar", "layers.io/i:1", above=layers, config=config)
    engine.tell(image=str(archive))
    assert engine.answer("image") == ["layers.io/i:1"]
    show = (
        "stat -c '%n %a %u' /data/db /made /app/deep; cat /data/db/seed; echo; ls /app /usr/lib; cat /lib/b /app/hard; "
    )
    expected = "/data/db 750 65534\n/made 755 0\n/app/deep 755 0\nseed\n/app:\ndeep\nhard\nnew\n\n/usr/lib:\na\nb\nba"
    write = "touch /data/db/x /made/x /app/deep/x && echo written; touch /app/x && echo too much"
    for name, security in (("rw", {}), ("ro", {"readOnlyRootFilesystem": True})):
        spec = {"image": "layers.io/i:1", "securityContext": security}
        engine.put("pods", name, pod(name, show + write, restartPolicy="Never", container=spec))
        engine.until(name, lambda s: s["phase"] in ("Succeeded", "Failed"), "the end")
        shown = engine.logs(name)
        assert shown.startswith(expected + "written")
        assert ("too much" in shown) == (name == "rw") and ("Read-only file system" in shown) == (name == "ro")


def test_an_image_of_a_hostile_registry_takes_nothing_away_and_what_is_gone_comes_back(engine: Engine) -> None:
    registry = engine.root / "registry/v2/app"
    for tag, name in (("1", ".wh..."), ("2", ".wh.."), ("3", ".wh."), ("4", "d/.wh...")):
        evil = Image(layer(directory("d"), entry(name)))
        files = {
            f"manifests/{tag}": json.dumps(evil.manifest).encode(),
            **{f"blobs/{d}": b for d, b in evil.blobs.items()},
        }
        for path, data in files.items():
            (registry / path).parent.mkdir(parents=True, exist_ok=True)
            (registry / path).write_bytes(data)
    serve = ["-m", "http.server", "5000", "--bind", "127.0.0.1", "--directory", str(engine.root / "registry")]
    engine.host.spawn(sys.executable, *serve)
    until(lambda: "127.0.0.1:5000" in engine.host.run("ss", "-ltn"), timeout=20, what="the registry")

    def refused(status: dict[str, Any]) -> bool:
        return container(status)["state"].get("waiting", {}).get("reason") == "ErrImagePull"

    layers = engine.root / "state/images/layers"
    before = sorted(path.name for path in layers.iterdir())
    for tag in "1234":
        image = {"image": f"127.0.0.1:5000/app:{tag}"}
        engine.put("pods", f"evil{tag}", pod(f"evil{tag}", "true", container=image))
        status = engine.until(f"evil{tag}", refused, "ErrImagePull")
        assert "whiteout" in container(status)["state"]["waiting"]["message"]
    assert sorted(path.name for path in layers.iterdir()) == before
    shutil.rmtree(layers)
    layers.mkdir(mode=0o755)
    engine.put("pods", "good", pod("good", "exec sleep 1000"))
    engine.until("good", ready, "a pod whose image came back")
    assert sorted(path.name for path in layers.iterdir()) == before


def test_a_pod_that_makes_directories_in_each_other_without_end_goes_like_any_other(engine: Engine) -> None:
    """Deeper than recursion or open files would reach."""
    dig = "cd /work; i=0; while [ $i -lt 1200 ]; do mkdir d; cd d; i=$((i+1)); done; cd /tmp; mkdir -p "
    dig += "$(yes d | head -n 1500 | tr '\\n' /); exec sleep 1000"
    spec = pod(
        "mole", dig, volumes=[{"name": "work", "emptyDir": {}}],
        container={"volumeMounts": [{"name": "work", "mountPath": "/work"}],
                   "readinessProbe": {"exec": {"command": ["pidof", "sleep"]}, "periodSeconds": 1}},
    )  # fmt: skip
    engine.put("pods", "mole", spec)
    engine.until("mole", ready, "the pod Ready", timeout=60)
    engine.tell(delete="/desired/pods/default/mole")
    until(lambda: engine.reported.get("/reported/pods/default/mole", 1) is None, timeout=60, what="the end of the pod")
    assert not (engine.root / "state/pods/uid-mole").exists() and not (engine.root / "state/volumes/uid-mole").exists()
