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
    until(lambda: engine.reported["/reported/pods/default/hooks"].get("gone"), timeout=25, what="the end")
    until(lambda: "statuscode: 404" in events(engine), timeout=5, what="what became of the request before the end")
    engine.kill()
    engine.start()
    assert engine.status("deadline")["reason"] == "DeadlineExceeded"
    assert not engine.host.running(b"sleep\x001000")


def test_a_pod_is_looked_into_and_resized_while_it_runs(engine: Engine) -> None:  # noqa: F811
    small, large = {"cpu": "100m", "memory": "16Mi"}, {"cpu": "200m", "memory": "32Mi"}
    spec = pod("web", "exec sleep 1000", container={"resources": {"limits": small}})
    spec["metadata"]["generation"] = 1
    engine.put("pods", "web", spec)
    before = engine.until("web", ready, "the pod Ready")
    assert container(before)["user"]["linux"]["uid"] == 0
    assert container(before)["resources"]["limits"] == small and before["observedGeneration"] == 1
    look = {"name": "debug", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "targetContainerName": "main",
            "command": ["sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline; exit 5"]}  # fmt: skip
    spec["spec"].update(ephemeralContainers=[look])
    spec["spec"]["containers"][0]["resources"] = {"limits": large}
    spec["metadata"]["generation"] = 2
    engine.put("pods", "web", spec)
    seen = engine.until("web", lambda s: ephemeral(s, "terminated"), "the end of the ephemeral container")
    assert seen["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 5
    (log,) = engine.root.glob("logs/default_web_uid-web/debug/0.log")
    until(lambda: "sleep 1000" in log.read_text(), timeout=10, what="what it saw of the other's processes")
    after = engine.until("web", lambda s: container(s)["resources"]["limits"] == large, "other limits")
    assert container(after)["restartCount"] == 0 and container(after)["containerID"] == container(before)["containerID"]
    assert ready(after) and after["observedGeneration"] == 2
    engine.kill()
    engine.start()
    spec["spec"]["containers"][0]["resources"] = {"limits": {**large, "memory": "900Ti"}}
    engine.put("pods", "web", spec)
    refused = engine.until("web", lambda s: "PodResizePending" in conditions(s), "the refusal")
    assert conditions(refused)["PodResizePending"]["reason"] == "Infeasible"
    assert container(refused)["resources"]["limits"] == large, "of before the agent was restarted, too"
    assert container(refused)["restartCount"] == 0
