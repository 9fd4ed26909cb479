"""pods/ephemeralcontainers and pods/resize: each takes its part of a pod, and no other."""

from __future__ import annotations

from typing import Any

import pytest

from kubeedge.api.names import Object
from kubeedge.api.resources import Resources
from kubeedge.api.status import InvalidObject
from kubeedge.apiserver import core
from kubeedge.apiserver.builtin import BUILT_IN

ROW = Resources(BUILT_IN).by_path("", "v1", "pods")
assert ROW is not None
SMALL, LARGE = {"cpu": "100m", "memory": "8Mi"}, {"cpu": "200m", "memory": "16Mi"}


def create(**spec: Any) -> Object:
    assert ROW is not None
    main = {"name": "main", "image": "demo:1", "resources": {"limits": SMALL}}
    obj = {"metadata": {"name": "p"}, "spec": {"containers": [main], **spec}}
    return core.create(ROW, "default", obj, core.WriteOptions(), now=0.0, randbytes=lambda n: b"\1" * n)


def write(old: Object, subresource: str, spec: Object) -> Object:
    assert ROW is not None
    new = {"metadata": {"name": "p"}, "spec": spec}
    return core.update(ROW, old, new, subresource, core.WriteOptions(), now=1.0)


def debug(name: str = "d", **fields: Any) -> Object:
    return {"name": name, "image": "debug:1", "targetContainerName": "main", "stdin": True, "tty": True, **fields}


def resize(old: Object, **resources: Any) -> Object:
    return write(old, "resize", {"containers": [{"name": "main", "resources": resources}]})


def test_an_ephemeral_container_is_added_and_nothing_else_changes() -> None:
    old = create()
    new = write(old, "ephemeralcontainers", {"ephemeralContainers": [debug()], "containers": [], "hostNetwork": True})
    (added,) = new["spec"]["ephemeralContainers"]
    assert added["imagePullPolicy"] == "IfNotPresent" and added["targetContainerName"] == "main"
    assert {k: v for k, v in new["spec"].items() if k != "ephemeralContainers"} == old["spec"]
    assert (old["metadata"]["generation"], new["metadata"]["generation"]) == (1, 2)
    again = write(new, "ephemeralcontainers", {"ephemeralContainers": [debug(), debug("e")]})
    assert [c["name"] for c in again["spec"]["ephemeralContainers"]] == ["d", "e"]
    same = write(again, "ephemeralcontainers", again["spec"])
    assert same["metadata"]["generation"] == again["metadata"]["generation"] == 3


@pytest.mark.parametrize(
    ("containers", "what"),
    [
        ([], "may not be removed"),
        ([debug(image="other:1")], "may not be changed"),
        ([debug(), debug("main")], "Duplicate"),
        ([debug(), debug("e", targetContainerName="none")], "no container 'none'"),
        ([debug(), debug("e", ports=[{"containerPort": 1}])], "no ports"),
        ([debug(), debug("e", image="")], "image"),
        ([debug(), debug("E")], "name"),
    ],
)
def test_those_that_are_there_stay_as_they_are_and_new_ones_make_sense(containers: list[Object], what: str) -> None:
    old = write(create(), "ephemeralcontainers", {"ephemeralContainers": [debug()]})
    with pytest.raises(InvalidObject, match=what):
        write(old, "ephemeralcontainers", {"ephemeralContainers": containers})


def test_they_come_by_the_subresource_alone() -> None:
    with pytest.raises(InvalidObject, match="cannot be set on create"):
        create(ephemeralContainers=[debug()])
    old = create()
    with pytest.raises(InvalidObject, match="may not change fields"):
        write(old, "", {**old["spec"], "ephemeralContainers": [debug()]})


def test_a_resize_changes_cpu_and_memory_of_containers_that_go_on_and_nothing_else() -> None:
    sidecar = {"name": "s", "image": "demo:1", "restartPolicy": "Always", "resources": {"limits": SMALL}}
    old = create(initContainers=[sidecar])
    new = write(old, "resize", {
        "initContainers": [{"name": "s", "resources": {"limits": LARGE, "requests": LARGE}}],
        "containers": [{"name": "main", "image": "other:1", "resources": {"limits": LARGE, "requests": LARGE}}],
        "hostNetwork": True,
    })  # fmt: skip
    (main,), (side,) = new["spec"]["containers"], new["spec"]["initContainers"]
    assert main["resources"] == side["resources"] == {"limits": LARGE, "requests": LARGE}
    assert main["image"] == "demo:1" and "hostNetwork" not in new["spec"]
    assert new["metadata"]["generation"] == 2
    partly = write(new, "resize", {"containers": []})
    assert partly["spec"] == new["spec"] and partly["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    ("resources", "what"),
    [
        ({"limits": LARGE}, "requests cannot be removed"),
        ({"limits": LARGE, "requests": SMALL}, "QOS Class may not change"),
        ({"limits": {**SMALL, "hugepages-2Mi": "2Mi"}, "requests": SMALL}, "only cpu and memory"),
        ({"limits": {"cpu": "100m"}, "requests": SMALL}, "limits cannot be removed"),
        ({"limits": SMALL, "requests": LARGE}, "requests"),
        ({"limits": {"cpu": "-1", "memory": "8Mi"}, "requests": SMALL}, "limits"),
    ],
)
def test_a_resize_that_makes_no_sense_is_refused(resources: Object, what: str) -> None:
    with pytest.raises(InvalidObject, match=what):
        resize(create(), **resources)


def test_neither_an_init_container_nor_a_pod_that_has_ended_is_resized() -> None:
    init = {"name": "i", "image": "demo:1", "resources": {"limits": SMALL}}
    with pytest.raises(InvalidObject, match="only containers that go on"):
        write(create(initContainers=[init]), "resize", {"initContainers": [
            {"name": "i", "resources": {"limits": LARGE, "requests": LARGE}}]})  # fmt: skip
    with pytest.raises(InvalidObject, match="has ended"):
        resize({**create(), "status": {"phase": "Succeeded"}}, limits=LARGE, requests=LARGE)
    with pytest.raises(InvalidObject, match="may not change fields"):
        old = create()
        main = {**old["spec"]["containers"][0], "resources": {"limits": LARGE}}
        write(old, "", {**old["spec"], "containers": [main]})


def test_hooks_and_image_volumes_have_defaults() -> None:
    main = {
        "name": "main",
        "image": "demo:1",
        "lifecycle": {"preStop": {"httpGet": {"port": 80}}, "stopSignal": "SIGUSR1"},
    }
    images = [{"name": n, "image": {"reference": r}} for n, r in (("a", "demo:1"), ("b", "demo:latest"))]
    spec = create(containers=[main], volumes=images)["spec"]
    assert spec["containers"][0]["lifecycle"]["preStop"]["httpGet"] == {"port": 80, "path": "/", "scheme": "HTTP"}
    assert [v["image"]["pullPolicy"] for v in spec["volumes"]] == ["IfNotPresent", "Always"]
