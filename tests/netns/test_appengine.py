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

from tests.kit import control_groups, images
from tests.kit.layers import Image, directory, entry, layer, link
from tests.kit.topology import DEFAULT_TIMEOUT, Host, Topology, until

pytestmark = pytest.mark.root
ROOT = Path(__file__).parents[2]
IMAGE = "docker.io/library/demo:1"


class Engine:
    """engine_host in a host; `reported` holds the newest value of each reported key, and is another dict after each change."""

    def __init__(self, host: Host, root: Path, cgroup: str) -> None:
        self.host, self.root, self.cgroup = host, root, cgroup
        self.more: dict[str, Any] = {}  # of the configuration of engine_host
        self.reported: dict[str, Any] = {}
        self._answers: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self.start()

    def start(self) -> float:
        begun = time.time()
        config = {"root": str(self.root), "cgroup": self.cgroup, **self.more}
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
                    self.reported = {**self.reported, message["key"]: message["value"]}
                else:
                    self._answers.append(message)
                self._changed.notify_all()

    def answer(self, name: str, timeout: float = DEFAULT_TIMEOUT) -> Any:
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

    def desired(self) -> list[str]:
        """The pods that the engine wants to run."""
        self.tell(desired=True)
        return list(self.answer("desired"))

    def status(self, pod: str) -> dict[str, Any]:
        return (self.reported.get(f"/reported/pods/default/{pod}") or {}).get("status", {})

    def until(
        self, pod: str, condition: Callable[[dict[str, Any]], Any], what: str, timeout: float = DEFAULT_TIMEOUT
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
        until(lambda: len(self.logs(pod, previous=previous)) >= len(text), what=f"the log of {pod}")
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
        control_groups.remove(cgroup)


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


def process(engine: Engine, command: bytes) -> int:
    """The one with it in its command line. Ready is about a shell that may not have become it yet."""
    return engine.host.process(command)


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
    page = f"http://{status['podIP']}:8080/colour"  # Ready is not listening: there is no probe
    until(lambda: engine.host.run("busybox", "wget", "-qO-", page, check=False) == "blue", what="the page")
    engine.until_logs("web", "blue edge1\nblue")
    outside = os.readlink(f"/proc/{engine.host.pid}/ns/net")
    server = process(engine, b"httpd")
    assert os.readlink(f"/proc/{server}/ns/net") != outside
    # the ConfigMap changes while the pod runs
    engine.put("configmaps", "settings", {"data": {"colour": "green"}})
    mounted = Path(f"/proc/{server}/root/config/colour")
    until(lambda: mounted.read_text() == "green", what="the new file in the container")
    # and the pod goes
    engine.tell(delete="/desired/pods/default/web")
    until(lambda: engine.reported.get("/reported/pods/default/web", 1) is None, what="the end of the pod")
    assert not engine.host.running(b"httpd")
    assert "uid-web" not in engine.host.run("cat", "/proc/self/mountinfo")
    assert control_groups.find(engine.cgroup, "*poduid-web") == []
    assert not (engine.root / "state/pods/uid-web").exists()
    assert engine.host.run("ls", str(engine.root / "run/ns")).strip() == ""


def test_a_deleted_pod_is_reported_gone_while_the_cloud_still_wants_to_know(engine: Engine) -> None:
    spec = pod("bye", "exec sleep 1000")
    engine.put("pods", "bye", spec)
    engine.until("bye", ready, "the pod Ready")
    spec["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z", deletionGracePeriodSeconds=1)
    engine.put("pods", "bye", spec)
    key = "/reported/pods/default/bye"
    until(lambda: (engine.reported.get(key) or {}).get("gone"), what="the report")
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

    def backs_off() -> bool:
        events = [row for key, row in engine.reported.items() if key.startswith("/reported/events/")]
        return any(
            event["reason"] == "BackOff" and "container main in pod crash_" in event["message"] for event in events
        )

    until(backs_off, what="the event of the back-off")


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
    status = engine.until("greedy", lambda s: s["phase"] == "Failed", "Failed")
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
    status = engine.until("waits", lambda s: "late" in waits(s).get("message", ""), "the missing ConfigMap")
    assert waits(status) == {
        "reason": "ContainerCreating",
        "message": 'configmap "late" not found',
    }  # as a kubelet, whose volumes come first
    events = [row for key, row in engine.reported.items() if key.startswith("/reported/events/default/waits")]
    assert "FailedMount" in {event["reason"] for event in events}
    engine.put("configmaps", "late", {"data": {"k": "now"}})
    engine.until("waits", ready, "the pod after its ConfigMap came")
    until(lambda: engine.logs("waits") == "now", what="what it read")


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
    engine.until("probed", lambda s: container(s)["restartCount"] >= 1, "the restart by the liveness probe")


def test_containers_survive_a_killed_agent(engine: Engine) -> None:
    engine.put("pods", "steady", pod("steady", "echo once; exec sleep 1000"))
    before = engine.until("steady", ready, "the pod Ready")

    sleeper = process(engine, b"sleep\x001000")
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
        return engine.host.running(b"sleep\x001000")

    until(lambda: len(sleepers()) == 3, what="the shells to become sleep")  # Ready means that they run


def test_a_pod_that_cannot_be_understood_fails_with_the_path(engine: Engine) -> None:
    spec = pod("broken", "true")
    spec["spec"]["containers"][0]["command"] = "not a list"
    engine.put("pods", "broken", spec)
    status = engine.until("broken", lambda s: s["phase"] == "Failed", "Failed")
    assert "spec.containers[0].command" in status["message"]
    newer = pod("newer", "true", container={"imagePullPolicy": "IfNewer"})  # of an API that is newer than this agent
    engine.put("pods", "newer", newer)
    status = engine.until("newer", lambda s: s.get("reason") == "UnsupportedPod", "it waits")
    assert status["phase"] == "Pending" and "imagePullPolicy: 'IfNewer' is none of" in status["message"]


def test_a_pod_of_runtime_default_is_behind_a_filter_and_its_processes_are_counted(engine: Engine) -> None:
    """From outside: what the kernel says of the process and of its control groups."""
    for name, profile in (("filtered", {"type": "RuntimeDefault"}), ("free", {"type": "Unconfined"})):
        engine.put(
            "pods",
            name,
            pod(
                name,
                "unshare -U true 2>/dev/null && echo unshared || echo refused; grep Seccomp: /proc/self/status; exec sleep 1000",
                securityContext={"seccompProfile": profile},
                container={"securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}}},
            ),
        )
        engine.until(name, ready, f"pod {name} Ready")
    until(lambda: "Seccomp" in engine.logs("filtered"), what="the log")
    assert engine.logs("filtered").split() == ["refused", "Seccomp:", "2"]
    until(lambda: "Seccomp" in engine.logs("free"), what="the log")
    assert engine.logs("free").split() == ["unshared", "Seccomp:", "0"]
    groups = engine.host.run(
        "sh", "-c", f"cat /sys/fs/cgroup/pids/{engine.cgroup}/kubepods/besteffort/poduid-filtered/pids.max"
    )
    assert groups.strip() == "1024"
    every = int(engine.host.run("cat", f"/sys/fs/cgroup/pids/{engine.cgroup}/pids.max"))
    machine = (int(engine.host.run("cat", f"/proc/sys/kernel/{name}")) for name in ("pid_max", "threads-max"))
    assert every == min(machine) * 3 // 4


def test_a_profile_of_the_node_applies_and_one_that_is_missing_keeps_the_container_waiting(engine: Engine) -> None:
    profiles = engine.root / "state/seccomp"
    profiles.mkdir()
    rules = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}
    (profiles / "no-mkdir.json").write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rules]}))
    for name in ("no-mkdir", "none"):
        profile = {"type": "Localhost", "localhostProfile": f"{name}.json"}
        engine.put(
            "pods", name, pod(name, "mkdir /tmp/x; exec sleep 1000", securityContext={"seccompProfile": profile})
        )
    engine.until("no-mkdir", ready, "the pod Ready")
    until(lambda: "Permission denied" in engine.logs("no-mkdir"), what="the refusal")
    status = engine.until("none", lambda s: "waiting" in container(s)["state"] and s, "the pod")
    status = engine.until(
        "none", lambda s: container(s)["state"]["waiting"]["reason"] == "CreateContainerError", "the reason"
    )
    assert "none.json: No such file" in container(status)["state"]["waiting"]["message"]
    until(
        lambda: any("none.json" in str(v) for k, v in engine.reported.items() if "/events/" in k), what="the event",
    )  # fmt: skip


def test_a_fork_bomb_ends_at_the_bound_of_its_pod(engine: Engine) -> None:
    """And the control group counts the refusals; nothing of the machine is used up."""
    engine.put(
        "pods", "bomb", pod("bomb", "i=0; while [ $i -lt 2000 ]; do sleep 1000 & i=$((i+1)); done; exec sleep 1000")
    )
    group = f"/sys/fs/cgroup/pids/{engine.cgroup}/kubepods/besteffort/poduid-bomb"
    until(lambda: Path(f"/proc/{engine.host.pid}/root{group}/pids.max").exists(), what="the group")
    here = Path(f"/proc/{engine.host.pid}/root{group}")
    until(lambda: _refused(here) > 0, what="a refused fork")
    assert int((here / "pids.current").read_text()) <= 1024


def _refused(group: Path) -> int:
    """In the group or below it: the bound that was reached first counts."""
    events = [line.split() for file in group.glob("**/pids.events") for line in file.read_text().splitlines()]
    return sum(int(value) for name, value in events if name == "max")


def test_host_network_leaves_the_machine_s_ipc_and_shared_memory_alone(engine: Engine) -> None:
    engine.put("pods", "near", pod("near", "exec sleep 1000", hostNetwork=True))
    status = engine.until("near", ready, "the pod Ready")
    inside = process(engine, b"sleep\x001000")

    def namespace(pid: int, kind: str) -> str:
        return os.readlink(f"/proc/{pid}/ns/{kind}")

    assert namespace(inside, "ipc") != namespace(engine.host.pid, "ipc")
    assert namespace(inside, "net") == namespace(engine.host.pid, "net")
    assert namespace(inside, "uts") == namespace(engine.host.pid, "uts")
    assert status["podIP"] == "100.64.0.1"
    engine.tell(delete="/desired/pods/default/near")
    until(lambda: engine.reported.get("/reported/pods/default/near", 1) is None, what="the end of the pod")
    assert engine.host.run("ls", str(engine.root / "run/ns")).strip() == ""


def left_in(engine: Engine, *names: str) -> list[str]:
    """Of the run directory: what runs leave there."""
    return [
        f"{name}/{left}" for name in names for left in engine.host.run("ls", str(engine.root / "run" / name)).split()
    ]


def test_restarts_leave_nothing_behind_in_the_run_directory(engine: Engine) -> None:
    engine.put("pods", "loop", pod("loop", "exit 1"))
    engine.until("loop", lambda s: container(s)["restartCount"] >= 1, "a restart")
    for name in ("s", "exits", "specs", "oci"):  # two while one run ends and another begins
        until(lambda name=name: len(left_in(engine, name)) <= 1, what=f"one run at most in {name}")  # type: ignore[misc]
    engine.put("pods", "once", pod("once", "exec sleep 1000"))
    engine.until("once", ready, "the pod Ready")
    engine.kill()
    (engine.root / "run/s/0123abc").symlink_to(engine.root)  # of a run that nobody knows: an agent from before
    engine.start()
    left = engine.host.run("ls", str(engine.root / "run/s")).split()
    assert "0123abc" not in left and len(left) <= 2 and engine.root.is_dir()
    for name in ("loop", "once"):
        engine.tell(delete=f"/desired/pods/default/{name}")
    until(lambda: not list((engine.root / "state/pods").iterdir()), what="the end of the pods")
    until(lambda: left_in(engine, "s", "exits", "specs") == [], what="nothing is left of their runs")


def test_secrets_are_in_memory_alone_and_survive_the_agent(engine: Engine) -> None:
    """Volume and environment: no byte of them is in a file of the disk, but for the store's own."""
    secret = "c2VjcmV0LXRleHQtb2YtdGhlLXRlc3Q="  # secret-text-of-the-test
    engine.put("secrets", "key", {"data": {"password": secret}})
    spec = pod(
        "vault",
        "echo $PASSWORD | wc -c; exec sleep 1000",
        volumes=[
            {"name": "plain", "secret": {"secretName": "key", "defaultMode": 0o400}},
            {"name": "mixed", "projected": {"sources": [{"secret": {"name": "key"}}]}},
        ],
        securityContext={"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000},
        container={
            "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "key", "key": "password"}}}],
            "volumeMounts": [{"name": "plain", "mountPath": "/plain"}, {"name": "mixed", "mountPath": "/mixed"}],
            "readinessProbe": {"exec": {"command": ["sh", "-c", "cat /plain/password /mixed/password"]}},
        },
    )
    engine.put("pods", "vault", spec)
    engine.until("vault", ready, "the pod Ready: uid 1000 reads a file of mode 0400 by its group")
    volumes = engine.root / "state/volumes/uid-vault"
    info = engine.host.run("cat", "/proc/self/mountinfo").splitlines()
    for name in ("plain", "mixed"):
        (mounted,) = [line for line in info if line.split()[4] == str(volumes / name)]
        assert " - tmpfs " in mounted and "size=" in mounted
    engine.kill()
    found = engine.host.run(
        "sh", "-c",
        f"find {engine.root}/state -xdev -type f ! -name 'edge.db*' | xargs grep -l secret-text-of-the-test || true",
    )  # fmt: skip
    assert found == ""
    engine.start()
    engine.until("vault", ready, "the pod still Ready")
    inside = process(engine, b"sleep\x001000")
    read = Path(f"/proc/{inside}/root/plain/password")
    assert read.read_text() == "secret-text-of-the-test"
    engine.put("secrets", "key", {"data": {"password": "bmV3"}})
    until(lambda: read.read_text() == "new", what="the new secret")
    engine.tell(delete="/desired/pods/default/vault")
    until(lambda: engine.reported.get("/reported/pods/default/vault", 1) is None, what="the end")
    assert "uid-vault" not in engine.host.run("cat", "/proc/self/mountinfo") and not volumes.exists()


def test_a_second_and_shorter_deletion_ends_what_is_still_ending(engine: Engine) -> None:
    def killing(name: str) -> bool:
        told = [json.dumps(value) for key, value in list(engine.reported.items()) if "/events/" in key]
        return any('"Killing"' in text and f'"{name}"' in text for text in told)

    spec = pod(
        "stubborn", "trap '' TERM; touch /tmp/deaf; while :; do sleep 1; done", terminationGracePeriodSeconds=600
    )
    spec["spec"]["containers"][0]["readinessProbe"] = {
        "exec": {"command": ["test", "-e", "/tmp/deaf"]},
        "periodSeconds": 1,
    }
    engine.put("pods", "stubborn", spec)
    forced = json.loads(json.dumps(spec).replace("stubborn", "forced"))
    engine.put("pods", "forced", forced)
    engine.until("stubborn", ready, "the pod Ready")
    engine.until("forced", ready, "the other pod Ready")
    for grace in (600, 400, 1):
        spec["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z", deletionGracePeriodSeconds=grace)
        engine.put("pods", "stubborn", spec)
        if grace == 600:
            until(lambda: killing("stubborn"), what="the beginning of its end")
    key = "/reported/pods/default/stubborn"
    until(lambda: (engine.reported.get(key) or {}).get("gone"), what="the end")
    # the other one by force: Kubernetes removes the object, whatever grace the pod still has
    forced["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z", deletionGracePeriodSeconds=600)
    engine.put("pods", "forced", forced)
    until(lambda: killing("forced"), what="the beginning of its end")
    engine.tell(delete="/desired/pods/default/forced")
    key = "/reported/pods/default/forced"
    until(lambda: engine.reported.get(key, 1) is None, what="the end of the other one")
    assert not engine.host.running(b"/tmp/deaf")


def test_a_pod_that_is_desired_again_while_it_ends_or_has_just_ended_runs_again(engine: Engine) -> None:
    """Its node was removed and joined again, say: the pod, by its uid, is taken away from the node and given back. What takes long, the pull of
    an image, is given up for an end, and begun again after it."""
    spec = pod("back", "trap '' TERM; while :; do sleep 0.31234; done", terminationGracePeriodSeconds=3)
    absent = {"name": "late", "image": "127.0.0.1:1/absent:1", "command": ["true"]}
    spec["spec"]["containers"].append(absent)

    def waits(status: dict[str, Any]) -> bool:
        state = status["containerStatuses"][1]["state"]
        return "ErrImagePull" in json.dumps(state) or "ImagePullBackOff" in json.dumps(state)

    def runs_as_another(was: str) -> Callable[[dict[str, Any]], bool]:
        return lambda status: container(status)["ready"] and container(status)["containerID"] != was and waits(status)

    def killings() -> int:
        events = (value for value in engine.reported.values() if (value or {}).get("reason") == "Killing")
        return sum(event["count"] for event in events)

    engine.put("pods", "back", spec)
    known = container(engine.until("back", runs_as_another(""), "it runs, but for one image"))["containerID"]
    engine.tell(delete="/desired/pods/default/back")
    until(lambda: killings() == 1, what="the beginning of its end")
    engine.put("pods", "back", spec)
    status = engine.until("back", runs_as_another(known), "running again, after the end had begun")
    known = container(status)["containerID"]
    for _ in range(4):  # what is left of it at that moment differs
        engine.tell(delete="/desired/pods/default/back")
        until(lambda: not engine.host.running(b"0.31234"), what="the end of its processes", interval=0.005)
        engine.put("pods", "back", spec)
        known = container(engine.until("back", runs_as_another(known), "running again"))["containerID"]
    process(engine, b"trap '' TERM")  # one: a child that was just forked for `sleep` has the same words for a moment
    spec["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z", deletionGracePeriodSeconds=1)
    engine.put("pods", "back", spec)
    key = "/reported/pods/default/back"
    until(lambda: (engine.reported.get(key) or {}).get("gone"), what="the end of a deletion")


def test_a_pod_that_is_desired_again_while_its_end_is_written_down_is_not_forgotten(engine: Engine) -> None:
    """On a slow disk that takes a second."""
    engine.kill()
    key = "/reported/pods/default/back"
    engine.more = {"held": key}
    engine.start()
    spec = pod("back", "exec sleep 31235")
    engine.put("pods", "back", spec)
    first = container(engine.until("back", ready, "the pod Ready"))["containerID"]
    engine.tell(delete="/desired/pods/default/back")
    assert engine.answer("held") == key
    engine.put("pods", "back", spec)
    until(lambda: engine.desired() == ["back"], what="the engine knows that it is desired again")
    engine.tell(release=True)
    engine.until("back", lambda s: ready(s) and container(s)["containerID"] != first, "running again")
    process(engine, b"31235")


def test_labels_that_change_reach_the_downward_api_s_volume(engine: Engine) -> None:
    items = [{"path": name, "fieldRef": {"fieldPath": f"metadata.{name}"}} for name in ("labels", "annotations")]
    spec = pod(
        "told",
        "exec sleep 1000",
        volumes=[
            {"name": "own", "downwardAPI": {"items": items}},
            {"name": "mixed", "projected": {"sources": [{"downwardAPI": {"items": items}}]}},
        ],
        container={
            "volumeMounts": [{"name": "own", "mountPath": "/own"}, {"name": "mixed", "mountPath": "/mixed"}],
        },
    )
    engine.put("pods", "told", spec)
    engine.until("told", ready, "the pod Ready")

    inside = process(engine, b"sleep\x001000")
    spec["metadata"]["labels"]["colour"] = "green"
    spec["metadata"]["annotations"] = {"note": "new"}
    engine.put("pods", "told", spec)
    for volume in ("own", "mixed"):
        seen = Path(f"/proc/{inside}/root/{volume}")
        until(lambda seen=seen: 'colour="green"' in (seen / "labels").read_text(), what="labels")  # type: ignore[misc]
        assert 'note="new"' in (seen / "annotations").read_text()


def test_an_empty_list_is_no_command(engine: Engine) -> None:
    engine.put("pods", "plain", pod("plain", "", restartPolicy="Never", container={"command": [], "args": []}))
    engine.until("plain", lambda s: s["phase"] == "Succeeded", "the end of the image's own command")


def test_a_pod_with_a_finalizer_says_how_it_ended(engine: Engine) -> None:
    spec = pod("kept", "exec sleep 1000")
    spec["metadata"]["finalizers"] = ["example.com/wait"]
    engine.put("pods", "kept", spec)
    engine.until("kept", ready, "the pod Ready")
    spec["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z", deletionGracePeriodSeconds=1)
    engine.put("pods", "kept", spec)
    key = "/reported/pods/default/kept"
    until(lambda: (engine.reported.get(key) or {}).get("gone"), what="the report")
    status = engine.reported[key]["status"]
    assert status["phase"] == "Failed" and "terminated" in container(status)["state"]


def test_a_sidecar_runs_before_beside_and_after_the_others(engine: Engine) -> None:
    shared = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    side = {
        "name": "side", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "restartPolicy": "Always",
        "command": ["sh", "-c", "trap 'echo side ended >>/shared/log; exit 0' TERM; touch /shared/up; while :; do sleep 0.1; done"],
        "startupProbe": {"exec": {"command": ["test", "-e", "/shared/up"]}, "periodSeconds": 1}, **shared,
    }  # fmt: skip
    spec = pod(
        "team",
        "test -e /shared/up && echo side was first; trap 'echo main ended >>/shared/log; exit 0' TERM; while :; do sleep 0.1; done",
        initContainers=[side],
        volumes=[{"name": "shared", "emptyDir": {}}],
        terminationGracePeriodSeconds=10,
        container=shared,
    )
    engine.put("pods", "team", spec)
    status = engine.until("team", ready, "the pod Ready")
    assert status["initContainerStatuses"][0]["started"] and status["phase"] == "Running"
    until(lambda: engine.logs("team").strip() == "side was first", what="what main saw")
    log = os.open(engine.root / "state/volumes/uid-team/shared", os.O_DIRECTORY)
    try:
        spec["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z", deletionGracePeriodSeconds=10)
        fd = os.open("log", os.O_CREAT | os.O_RDWR, 0o666, dir_fd=log)
        os.fchmod(fd, 0o666)
        engine.put("pods", "team", spec)
        until(lambda: (engine.reported["/reported/pods/default/team"]).get("gone"), what="the end")
        with open(fd, "rb") as file:
            assert file.read() == b"main ended\nside ended\n"
    finally:
        os.close(log)


def test_a_volume_beyond_its_limit_evicts_the_pod(engine: Engine) -> None:
    spec = pod(
        "greedy",
        "echo begun; dd if=/dev/zero of=/v/x bs=1M count=20; exec sleep 1000",
        volumes=[{"name": "v", "emptyDir": {"sizeLimit": "4Mi"}}],
        container={"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
    )
    engine.put("pods", "greedy", spec)
    status = engine.until("greedy", lambda s: s.get("reason") == "Evicted", "the eviction")
    assert status["phase"] == "Failed" and '"v" exceeds the limit "4Mi"' in status["message"]
    status = engine.until("greedy", lambda s: "terminated" in container(s)["state"], "the end of its process")
    until(
        lambda: "Evicted" in json.dumps([v for k, v in engine.reported.items() if "/events/" in k]),
        what="event",
    )
    engine.kill()
    engine.start()
    assert "begun\n" in engine.logs("greedy")  # dd may have been stopped under way: the look came before its end
    assert not engine.host.running(b"sleep\x001000")
    assert engine.status("greedy")["reason"] == "Evicted"


def test_small_things_that_programs_rely_on(engine: Engine) -> None:
    """HOSTNAME, a subPathExpr, the last words of a failure as its message, and a volume that nobody has; without being root."""
    spec = pod(
        "web-0",
        "echo $HOSTNAME; ifconfig lo | grep -c UP; touch /logs/here /memory/here; stat -c %g /logs/here /memory/here; "
        "echo the reason >&2; exit 3",
        restartPolicy="Never",
        securityContext={"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000},
        volumes=[{"name": "v", "emptyDir": {}}, {"name": "m", "emptyDir": {"medium": "Memory"}}],
        container={
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "env": [{"name": "WHO", "value": "me"}],
            "volumeMounts": [
                {"name": "v", "mountPath": "/logs", "subPathExpr": "of/$(WHO)"},
                {"name": "m", "mountPath": "/memory"},
            ],
        },
    )
    engine.put("pods", "web-0", spec)
    status = engine.until("web-0", lambda s: s["phase"] == "Failed", "the failure")
    assert "the reason" in container(status)["state"]["terminated"]["message"]
    until(lambda: engine.logs("web-0").split()[:4] == ["web-0", "1", "2000", "2000"], what="what it printed")
    assert (engine.root / "state/volumes/uid-web-0/v/of/me/here").exists()
    engine.put("pods", "claim", pod("claim", "true", volumes=[{"name": "v", "iscsi": {"targetPortal": "p"}}]))
    status = engine.until("claim", lambda s: s.get("reason") == "UnsupportedPod", "the reason")
    assert status["phase"] == "Pending" and "iscsi" in status["message"]


def test_a_runtime_that_is_removed_is_named_and_taken_up_again_when_it_is_back(engine: Engine) -> None:
    engine.put("pods", "before", pod("before", "exec sleep 1000"))
    engine.until("before", ready, "the pod Ready")
    programs = [p for name in ("crun", "runc") if (p := shutil.which(name))]
    for program in programs:  # in the mount namespace of the host alone
        engine.host.run("mount", "--bind", "/dev/null", program)
    engine.put("pods", "late", pod("late", "exec sleep 1000"))
    waiting = lambda s: container(s)["state"].get("waiting", {})  # noqa: E731
    status = engine.until("late", lambda s: waiting(s).get("reason") == "CreateContainerError", "the reason")
    assert "crun or runc is missing on this node" in waiting(status)["message"]
    runtime = lambda: engine.reported.get("/reported/conditions/_/containerruntime", {"status": ""})  # noqa: E731
    until(lambda: runtime()["status"] == "False", what="the condition of the node")
    assert "crun or runc missing on this node" in runtime()["message"]
    for program in programs:
        engine.host.run("umount", program)
    engine.until("late", ready, "the pod Ready")
    until(lambda: runtime()["status"] == "True", what="the end of it")


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_both_runtimes_apply_the_filter_and_the_bounds(engine: Engine, runtime: str) -> None:
    engine.kill()
    other = shutil.which("runc" if runtime == "crun" else "crun")
    assert other and shutil.which(runtime)
    engine.host.run("mount", "--bind", "/dev/null", other)  # in the mount namespace of the host alone
    engine.start()
    engine.put(
        "pods",
        "filtered",
        pod(
            "filtered",
            "grep Seccomp: /proc/self/status; exec sleep 1000",
            securityContext={"seccompProfile": {"type": "RuntimeDefault"}},
        ),
    )
    engine.until("filtered", ready, "the pod Ready")
    until(lambda: engine.logs("filtered").split() == ["Seccomp:", "2"], what="the filter")
    until(
        lambda: (
            f"embedded://{runtime}"
            in engine.reported["/reported/nodes/_/edge1"]["status"]["nodeInfo"]["containerRuntimeVersion"]
        ),
        what="what the node says of it: the first agent may have said another",
    )
    limits = engine.host.run(
        "sh", "-c", f"cat /sys/fs/cgroup/pids/{engine.cgroup}/kubepods/besteffort/poduid-filtered/*/pids.max"
    )
    assert limits.split() == ["1024"]


def test_a_log_that_is_filled_in_seconds_is_rotated_within_twenty(engine: Engine) -> None:
    """Looked at every ten seconds, whatever was written before."""
    line = "0123456789" * 10
    engine.put("pods", "chatty", pod("chatty", f"yes {line} | head -c 15000000; exec sleep 1000"))
    engine.until("chatty", ready, "the pod Ready")
    log = engine.root / "logs/default_chatty_uid-chatty/main/0.log"
    until(lambda: log.with_suffix(".log.1").exists(), what="the rotation")
    engine.put("pods", "again", pod("again", f"sleep 15; yes {line} | head -c 15000000; exec sleep 1000"))
    second = engine.root / "logs/default_again_uid-again/main/0.log"
    rotated = second.with_suffix(".log.1")
    # a look may come while it is written: then what is written afterwards is not beyond the limit again
    until(lambda: rotated.exists() or second.stat().st_size > 11_000_000, what="a log beyond its limit")
    assert until(rotated.exists, timeout=20, what="the rotation after a quiet time") < 20


def test_a_liveness_failure_is_acted_upon_within_its_own_grace(engine: Engine) -> None:
    probe = {"exec": {"command": ["test", "!", "-e", "/tmp/sick"]}, "periodSeconds": 1, "failureThreshold": 1}
    spec = pod(
        "deaf",
        "trap '' TERM; touch /tmp/sick; while :; do sleep 1; done",
        terminationGracePeriodSeconds=600,
        container={"livenessProbe": {**probe, "terminationGracePeriodSeconds": 1}},
    )
    engine.put("pods", "deaf", spec)
    status = engine.until("deaf", lambda s: container(s)["restartCount"] >= 1, "the restart")
    assert container(status)["lastState"]["terminated"]["exitCode"] == 137
    engine.put("pods", "deaf", {**spec, "metadata": {**spec["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z",
                                                     "deletionGracePeriodSeconds": 0}})  # fmt: skip
    until(lambda: (engine.reported["/reported/pods/default/deaf"]).get("gone"), what="the end")


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
        last = "Read-only file system" if name == "ro" else "too much"
        until(lambda name=name, last=last: last in engine.logs(name), what="what it printed")  # type: ignore[misc]
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
    until(lambda: "127.0.0.1:5000" in engine.host.run("ss", "-ltn"), what="the registry")

    def refused(status: dict[str, Any]) -> bool:
        return container(status)["state"].get("waiting", {}).get("reason") == "ErrImagePull"

    layers = engine.root / "state/images/layers"

    def names() -> list[str]:
        return sorted(path.name for path in layers.iterdir())

    before = names()
    for tag in "1234":
        image = {"image": f"127.0.0.1:5000/app:{tag}"}
        engine.put("pods", f"evil{tag}", pod(f"evil{tag}", "true", container=image))
        status = engine.until(f"evil{tag}", refused, "ErrImagePull")
        assert "whiteout" in container(status)["state"]["waiting"]["message"]
    for tag in "1234":  # they are pulled again and again otherwise, and make directories there meanwhile
        engine.tell(delete=f"/desired/pods/default/evil{tag}")
        gone = lambda tag=tag: engine.reported.get(f"/reported/pods/default/evil{tag}", 1) is None  # noqa: E731
        until(gone, what=f"the end of evil{tag}")
    until(lambda: names() == before, what="nothing more or less than before")
    shutil.rmtree(layers)
    layers.mkdir(mode=0o755)
    engine.put("pods", "good", pod("good", "exec sleep 1000"))
    engine.until("good", ready, "a pod whose image came back")
    until(lambda: names() == before, what="all of it is back")


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
    engine.until("mole", ready, "the pod Ready")
    engine.tell(delete="/desired/pods/default/mole")
    until(lambda: engine.reported.get("/reported/pods/default/mole", 1) is None, what="the end of the pod")
    assert not (engine.root / "state/pods/uid-mole").exists() and not (engine.root / "state/volumes/uid-mole").exists()


def test_a_start_that_fails_leaves_nothing_in_the_run_directory(engine: Engine) -> None:
    """What the container was to be started with holds its environment, and Secrets with it."""
    spec = pod("wrong", "", container={"command": ["/no/such/program"]})
    engine.put("pods", "wrong", spec)
    engine.until(
        "wrong", lambda s: "waiting" in container(s)["state"] and container(s)["state"]["waiting"].get("message"), "why"
    )
    until(lambda: left_in(engine, "specs", "exits", "s") == [], what="nothing is left of it, until it is tried again")
