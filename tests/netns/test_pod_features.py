"""What a Pod can ask for besides containers that run, with real containers: the end of a pod, looks into it, changes while it runs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.kit.topology import until
from tests.netns.test_appengine import IMAGE, Engine, container, engine, pod, ready  # noqa: F401

pytestmark = pytest.mark.root


def conditions(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {c["type"]: c for c in status.get("conditions", [])}


def ephemeral(status: dict[str, Any], state: str) -> bool:
    return state in (status.get("ephemeralContainerStatuses") or [{"state": {}}])[0]["state"]


def events(engine: Engine) -> str:  # noqa: F811
    return json.dumps([value for key, value in engine.reported.items() if "/events/" in key])


def test_a_pod_ends_at_its_deadline_by_rules_and_with_hooks(engine: Engine) -> None:  # noqa: F811
    rule = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    rules = pod(
        "rules", "test -e /v/once && exit 3; touch /v/once; exit 42", restartPolicy="Never",
        volumes=[{"name": "v", "emptyDir": {}}],
        container={"restartPolicy": "Never", "restartPolicyRules": rule,
                   "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
    )  # fmt: skip
    deadline = pod("deadline", "exec sleep 1000", activeDeadlineSeconds=2)
    hooks = pod(
        "hooks", "trap 'exit 0' TERM; httpd -p 8080 -h /www; while :; do sleep 0.1; done",
        terminationGracePeriodSeconds=20,
        volumes=[{"name": "www", "emptyDir": {}}],
        initContainers=[{"name": "init", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                         "command": ["sh", "-c", "echo hi >/www/hi"],
                         "volumeMounts": [{"name": "www", "mountPath": "/www"}]}],
        container={
            "volumeMounts": [{"name": "www", "mountPath": "/www"}],
            "lifecycle": {"postStart": {"sleep": {"seconds": 1}},
                          "preStop": {"httpGet": {"port": 8080, "path": "/missing"}}},
            "readinessProbe": {"httpGet": {"port": 8080, "path": "/hi"}, "periodSeconds": 1},
        },
    )  # fmt: skip
    for name, spec in (("rules", rules), ("deadline", deadline), ("hooks", hooks)):
        engine.put("pods", name, spec)
    seen = container(engine.until("rules", lambda s: s.get("phase") == "Failed", "the end by another exit code"))
    assert seen["restartCount"] == 1 and seen["state"]["terminated"]["exitCode"] == 3
    ended = engine.until("deadline", lambda s: s.get("reason") == "DeadlineExceeded", "the deadline")
    assert ended["phase"] == "Failed"
    engine.until("deadline", lambda s: "terminated" in container(s)["state"], "the end of its process")
    engine.until("hooks", ready, "the pod after its hook")
    hooks["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z", deletionGracePeriodSeconds=20)
    engine.put("pods", "hooks", hooks)
    until(lambda: engine.reported["/reported/pods/default/hooks"].get("gone"), what="the end")
    until(lambda: "statuscode: 404" in events(engine), what="what became of the request before the end")
    engine.kill()
    engine.start()
    assert engine.status("deadline")["reason"] == "DeadlineExceeded"
    assert not engine.host.running(b"sleep\x001000")


def test_a_pod_says_when_it_is_not_ready_any_more_while_it_ends_and_what_its_gates_and_its_node_say(
    engine: Engine,  # noqa: F811
) -> None:
    """A container that is told to end takes its time, and says by its readiness probe that nobody shall come any more; it is not restarted
    for its liveness probe. Beside it: readiness gates, a name of the user's choice, and pods that are never for this node."""
    look = {
        "exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 60
    }  # fmt: skip
    ending = pod(
        "ending", "trap 'rm -f /tmp/up' TERM; touch /tmp/up; while :; do sleep 0.1; done", terminationGracePeriodSeconds=600,
        container={"startupProbe": {**look, "failureThreshold": 600}, "readinessProbe": look, "livenessProbe": look},
    )  # fmt: skip
    gated = pod("gated", "hostname; hostname -f; exec sleep 1000", readinessGates=[{"conditionType": "example.com/checked"}],
                hostname="web-0", subdomain="web", hostnameOverride="other.example.host")  # fmt: skip
    unsafe = {"sysctls": [{"name": "kernel.msgmax", "value": "65536"}]}
    refused = {
        "PodOSNotSupported": pod("windows", "true", os={"name": "windows"}),
        "SysctlForbidden": pod("unsafe", "true", securityContext=unsafe),
    }
    for spec in (ending, gated, *refused.values()):
        engine.put("pods", spec["metadata"]["name"], spec)
    for reason, spec in refused.items():
        status = engine.until(spec["metadata"]["name"], lambda s, r=reason: s.get("reason") == r, "the refusal")
        assert status["phase"] == "Failed" and not status.get("containerStatuses")
    engine.until("ending", ready, "the pod Ready")
    ending["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z", deletionGracePeriodSeconds=600)
    engine.put("pods", "ending", ending)
    waits = engine.until("ending", lambda s: conditions(s)["Ready"]["status"] == "False", "the pod not Ready")
    assert (
        waits["phase"] == "Running" and container(waits)["restartCount"] == 0 and "running" in container(waits)["state"]
    )
    assert not container(waits)["ready"] and "Liveness probe failed" not in events(engine)
    closed = engine.until("gated", lambda s: s.get("containerStatuses", [{}])[0].get("ready"), "its container ready")
    assert conditions(closed)["Ready"]["reason"] == "ReadinessGatesNotReady"
    assert conditions(closed)["ContainersReady"]["status"] == "True"
    gated["status"] = {"conditions": [{"type": "example.com/checked", "status": "True"}]}
    engine.put("pods", "gated", gated)
    engine.until("gated", ready, "the pod Ready by its gate")
    until(lambda: engine.logs("gated") == "other.example.host\nother.example.host\n", what="its name")
    ending["metadata"]["deletionGracePeriodSeconds"] = 1
    engine.put("pods", "ending", ending)
    until(lambda: (engine.reported.get("/reported/pods/default/ending") or {}).get("gone"), what="the end")


def limits_of_pod(engine: Engine, name: str) -> set[str]:  # noqa: F811
    """Of the control group of a Guaranteed pod."""
    files = ("memory/{}/memory.limit_in_bytes", "cpu/{}/cpu.cfs_quota_us", "cpu/{}/cpu.shares")
    group = f"{engine.cgroup}/kubepods/poduid-{name}"
    return set(engine.host.run("cat", *(f"/sys/fs/cgroup/{file.format(group)}" for file in files)).split())


OWN_LIMITS = (
    "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us; "
    "(echo 0 > cpu/cpu.cfs_quota_us) 2>/dev/null || (mkdir memory/x) 2>/dev/null || echo closed"
)


def test_a_pod_is_looked_into_and_resized_while_it_runs(engine: Engine) -> None:  # noqa: F811
    small, large = {"cpu": "100m", "memory": "16Mi"}, {"cpu": "200m", "memory": "32Mi"}
    spec = pod("web", f"{OWN_LIMITS}; exec sleep 1000", container={"resources": {"limits": small}})
    spec["metadata"]["generation"] = 1
    engine.put("pods", "web", spec)
    before = engine.until("web", ready, "the pod Ready")
    assert container(before)["user"]["linux"]["uid"] == 0
    assert container(before)["resources"]["limits"] == small and before["observedGeneration"] == 1
    assert limits_of_pod(engine, "web") == {"16777216", "10000", "102"}
    until(lambda: engine.logs("web").split() == ["16777216", "10000", "closed"], what="its limits, as it sees them")
    look = {"name": "debug", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "targetContainerName": "main",
            "command": ["sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline; exit 5"]}  # fmt: skip
    spec["spec"].update(ephemeralContainers=[look])
    spec["spec"]["containers"][0]["resources"] = {"limits": large}
    spec["metadata"]["generation"] = 2
    engine.put("pods", "web", spec)
    seen = engine.until("web", lambda s: ephemeral(s, "terminated"), "the end of the ephemeral container")
    assert seen["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 5
    (log,) = engine.root.glob("logs/default_web_uid-web/debug/0.log")
    until(lambda: "sleep 1000" in log.read_text(), what="what it saw of the other's processes")
    after = engine.until(
        "web",
        lambda s: container(s)["resources"]["limits"] == large and ready(s) and s["observedGeneration"] == 2,
        "other limits",
    )
    assert container(after)["restartCount"] == 0 and container(after)["containerID"] == container(before)["containerID"]
    until(lambda: limits_of_pod(engine, "web") == {"33554432", "20000", "204"}, what="the limits of the whole pod")
    engine.kill()
    engine.start()
    spec["spec"]["containers"][0]["resources"] = {"limits": {**large, "memory": "900Ti"}}
    engine.put("pods", "web", spec)
    refused = engine.until("web", lambda s: "PodResizePending" in conditions(s), "the refusal")
    assert conditions(refused)["PodResizePending"]["reason"] == "Infeasible"
    assert container(refused)["resources"]["limits"] == large, "of before the agent was restarted, too"
    assert container(refused)["restartCount"] == 0


SAYS = "exec >/v/%s; grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status; unshare -U true 2>&1 && echo unshared; cat /proc/self/cgroup"


def test_every_process_of_a_pod_is_behind_its_filter_and_counts(engine: Engine) -> None:  # noqa: F811
    """Not only the main one: who may start a process in a pod by any other way would be free of both."""

    def says(name: str, then: str = "") -> list[str]:
        return ["sh", "-c", f"{SAYS % name}; {then}"]

    mounts = [{"name": "v", "mountPath": "/v"}]
    common = {"image": IMAGE, "imagePullPolicy": "IfNotPresent", "volumeMounts": mounts,
              "securityContext": {"allowPrivilegeEscalation": False}}  # fmt: skip
    spec = pod(
        "all", "exec sleep 1000", volumes=[{"name": "v", "emptyDir": {}}],
        securityContext={"seccompProfile": {"type": "RuntimeDefault"}, "runAsUser": 0},
        initContainers=[{**common, "name": "init", "command": says("init")},
                        {**common, "name": "sidecar", "restartPolicy": "Always", "command": says("sidecar", "exec sleep 1000")}],
        container={
            **common, "command": says("main", "exec sleep 1000"),
            "lifecycle": {"postStart": {"exec": {"command": says("hook")}}, "preStop": {"exec": {"command": says("stop")}}},
            "startupProbe": {"exec": {"command": says("startup")}},
            "livenessProbe": {"exec": {"command": says("liveness")}},
            "readinessProbe": {"exec": {"command": says("readiness")}},
        },
    )  # fmt: skip
    engine.put("pods", "all", spec)
    engine.until("all", ready, "the pod Ready")
    spec["spec"].update(
        ephemeralContainers=[{**common, "name": "debug", "command": says("debug"), "targetContainerName": "main"}]
    )
    engine.put("pods", "all", spec)
    engine.until("all", lambda s: ephemeral(s, "terminated"), "the end of the ephemeral container")
    [volume] = [path.parent for path in engine.root.glob("state/**/v/init")]
    spec["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z", deletionGracePeriodSeconds=20)
    names = ("init", "sidecar", "main", "hook", "startup", "liveness", "readiness", "debug")
    seen: dict[str, str] = {}

    def all_said() -> bool:
        for name in names:
            if (volume / name).exists() and "poduid-all" in (text := (volume / name).read_text()):
                seen[name] = text
        return len(seen) == len(names)

    until(all_said, what=f"all processes: {sorted(seen)}")
    for name, text in seen.items():
        assert "Seccomp:\t2" in text and "NoNewPrivs:\t1" in text and "unshared" not in text, (name, text)
        assert all("poduid-all" in line for line in text.splitlines() if ":pids:" in line), (name, text)
    refused: dict[str, tuple[dict[str, Any], str]] = {
        "drops": ({"securityContext": {"capabilities": {"drop": ["NET-RAW"]}}}, "unknown capability 'NET-RAW' to drop"),
        "over": ({"volumeMounts": [{"name": "v", "mountPath": "//proc"}]}, "only the node's own /proc"),
    }
    for name, (change, why) in refused.items():
        spec = pod(name, "exec sleep 1000", volumes=[{"name": "v", "emptyDir": {}}], container=change)
        engine.put("pods", name, spec)
        waits = engine.until(name, lambda s, why=why: why in json.dumps(s), f"the reason of {name}")  # type: ignore[misc]
        assert container(waits)["state"]["waiting"]["reason"] == "CreateContainerError"
