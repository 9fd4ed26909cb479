"""Pods and observations for the tests of AppEngine."""

from __future__ import annotations

from typing import Any

from kubeedge.api.pod import Pod
from kubeedge.api.pod_parser import parse
from kubeedge.appengine import core
from kubeedge.appengine.core import ContainerObservation, PodObservation

IMAGE = "docker.io/library/demo:1"


def container(name: str = "main", **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": IMAGE, **fields}


def manifest(
    name: str = "web", *, uid: str = "u1", metadata: dict[str, Any] | None = None, **spec: Any
) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "default", "name": name, "uid": uid, **(metadata or {})},
        "spec": {"containers": [container()], **spec},
    }


def pod(name: str = "web", **fields: Any) -> Pod:
    return parse(manifest(name, **fields))


def observed(**states: ContainerObservation) -> PodObservation:
    return PodObservation("u1", ip="10.244.1.2", sandbox=True, containers=states)


def running(at: float = 0.0, *, attempt: int = 0, image: str = IMAGE) -> ContainerObservation:
    state = ContainerObservation(ready=True, started=True)
    core.note_start(state, attempt=attempt, id=f"id{attempt}", pid=7, image=image, image_id="sha256:1", wall=at, now=at)
    return state


def exited(code: int, at: float, *, started: float | None = None, crashes: int = 1) -> ContainerObservation:
    state = running(at - 1.0 if started is None else started)
    state.crashes = crashes - 1
    core.note_exit(state, exit_code=code, reason="", message="", wall=at, now=at)
    return state
