"""Which pods a node refuses because of what is on it already."""

from __future__ import annotations

from typing import Any

import pytest

from kubeedge.api.pod import NotAdmitted, Pod
from kubeedge.appengine.admission import PORTS_TAKEN, admit
from kubeedge.appengine.worker import Worker
from tests.unit.appengine.world import container, observed, pod


def with_port(name: str, number: int = 8080, **fields: Any) -> Pod:
    ports = [{"containerPort": 80, "hostPort": number, **fields}] if number else [{"containerPort": 80}]
    return pod(name, uid=name, containers=[container(ports=ports)])


def here(one: Pod, **reported: Any) -> Worker:
    return Worker(one.uid, "default", one.name, one, observed(), reported=reported or None)


def arrives(one: Pod, *others: Worker, known: bool = False, worker: Worker | None = None) -> bool:
    worker = worker or Worker(one.uid, "default", one.name, None, observed())
    try:
        admit(worker, one, [worker, *others], known=known)
    except NotAdmitted as exc:
        assert exc.reason == PORTS_TAKEN
        worker.refuse(exc)
        return False
    worker.want(one)
    return True


@pytest.mark.parametrize(
    ("mine", "theirs", "admitted"),
    [
        ({}, {}, False),
        ({}, {"number": 8081}, True),
        ({}, {"number": 0}, True),
        ({"number": 0}, {"number": 0}, True),
        ({}, {"protocol": "UDP"}, True),
        ({"hostIP": "10.0.0.1"}, {"hostIP": "10.0.0.2"}, True),
        ({"hostIP": "10.0.0.1"}, {"hostIP": "10.0.0.1"}, False),
        ({"hostIP": "10.0.0.1"}, {}, False),
        ({"hostIP": "0.0.0.0"}, {"hostIP": "10.0.0.1"}, False),
    ],
)
def test_a_port_of_the_node_is_one_pod_s(mine: dict[str, Any], theirs: dict[str, Any], admitted: bool) -> None:
    assert arrives(with_port("a", **mine), here(with_port("b", **theirs))) is admitted


def test_only_a_new_pod_is_refused_and_only_for_one_that_shall_run() -> None:
    other = here(with_port("b"))
    assert arrives(with_port("a"), other, known=True)  # from before the agent started
    assert arrives(with_port("a"), other, worker=here(with_port("a"), phase="Running"))  # it was only changed
    for phase in ("Succeeded", "Failed"):
        assert arrives(with_port("a"), here(with_port("b"), phase=phase))
    other.end()
    assert arrives(with_port("a"), other)


def test_a_pod_that_was_refused_stays_refused() -> None:
    other, one = here(with_port("b")), with_port("a")
    worker = Worker(one.uid, "default", one.name, None, observed())
    assert not arrives(one, other, worker=worker)
    other.end()
    assert not arrives(one, worker=worker) and worker.desired is None
