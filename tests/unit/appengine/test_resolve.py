"""What environment and volumes refer to."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api.names import Object
from kubeedge.api.pod import Pod
from kubeedge.api.pod_parser import parse
from kubeedge.appengine import resolve
from kubeedge.appengine.volumes import registry
from kubeedge.appengine.volumes.base import VolumeContext
from kubeedge.appengine.volumes.contents import Files
from kubeedge.appengine.volumes.projections import Projection
from kubeedge.errors import Invalid, KubeEdgeError
from tests.unit.appengine.world import container, manifest, pod

OBJECTS: dict[tuple[str, str, str], Object] = {
    ("configmaps", "default", "settings"): {
        "data": {"colour": "blue", "size": "3"},
        "binaryData": {"raw": base64.b64encode(b"\x00\x01").decode()},
    },
    ("secrets", "default", "keys"): {"data": {"token": base64.b64encode(b"s3cret").decode()}},
    ("secrets", "default", "bad"): {"data": {"token": "not base64!"}},
    ("configmaps", "default", "hostile"): {"data": {"../../etc/passwd": "x"}},
}


def lookup(resource: str, namespace: str, name: str) -> Object | None:
    return OBJECTS.get((resource, namespace, name))


def environment(p: Pod) -> dict[str, str]:
    return resolve.environment(p, p.containers[0], lookup, pod_ip="10.244.1.2", host_ip="100.64.0.1", node="edge1")


def with_env(*env: dict[str, Any], **fields: Any) -> Pod:
    return pod(containers=[container(env=list(env), **fields)], metadata={"labels": {"app": "web"}})


def files(source: dict[str, Any], **annotations: str) -> Files:
    metadata = {"labels": {"b": "2", "a": "1"}, "annotations": annotations}
    p = pod(volumes=[{"name": "v", **source}], metadata=metadata)
    context = VolumeContext(
        pod=p, spec=p.volumes["v"], directory=Path("/none"), find=lookup,
        pod_ip="10.244.1.2", host_ip="100.64.0.1", node="edge1",
    )  # fmt: skip
    volume = registry.volume(context)
    assert isinstance(volume, Projection)
    return volume.contents()


def test_variables_that_double_each_other_are_refused_before_they_are_gigabytes() -> None:
    doubled = [{"name": f"A{n}", "value": f"$(A{n - 1})" * 2} for n in range(1, 60)]
    with pytest.raises(Invalid, match="longer than"):
        environment(with_env({"name": "A0", "value": "x"}, *doubled))
    same = [{"name": f"B{n}", "value": "$(A16)"} for n in range(50)]  # none of them is too long
    with pytest.raises(Invalid, match="longer than"):
        environment(with_env({"name": "A0", "value": "x"}, *doubled[:16], *same))


def test_a_large_config_map_that_is_named_often_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OBJECTS, ("configmaps", "default", "large"), {"data": {"key": "x" * 100_000}})
    reference = {"configMapKeyRef": {"name": "large", "key": "key"}}
    with pytest.raises(Invalid, match="environment is longer"):
        environment(with_env(*({"name": f"A{n}", "valueFrom": reference} for n in range(30))))
    sources = [{"prefix": f"P{n}_", "configMapRef": {"name": "large"}} for n in range(30)]
    with pytest.raises(Invalid, match="environment is longer"):
        environment(with_env(envFrom=sources))
    assert len(environment(with_env(envFrom=sources[:20]))) >= 20


def test_a_reference_to_a_key_reads_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unread(str):
        def __str__(self) -> str:
            raise AssertionError("read for a reference to another key")

    monkeypatch.setitem(OBJECTS, ("configmaps", "default", "many"), {"data": {"key": "x", "other": Unread()}})
    reference = {"configMapKeyRef": {"name": "many", "key": "key"}}
    assert environment(with_env({"name": "A", "valueFrom": reference})) == {"A": "x"}


def test_a_volume_that_names_a_large_object_often_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"k": base64.b64encode(b"x" * 1_000_000).decode()}
    monkeypatch.setitem(OBJECTS, ("secrets", "default", "big"), {"data": data})
    items = [{"key": "k", "path": f"f{n}"} for n in range(50)]
    parts = [{"secret": {"name": "big", "items": [item]}} for item in items]
    for source in ({"secret": {"secretName": "big", "items": items}}, {"projected": {"sources": parts}}):
        with pytest.raises(Invalid, match="more than 33554432 bytes"):
            files(source)
    assert len(files({"projected": {"sources": parts[:30]}})) == 30
    annotations = pod(
        volumes=[{"name": "v", "downwardAPI": {"items": [
            {"path": f"f{n}", "fieldRef": {"fieldPath": "metadata.annotations"}} for n in range(200)
        ]}}],
        metadata={"annotations": {"a/b": "x" * 250_000}},
    )  # fmt: skip
    context = VolumeContext(
        pod=annotations, spec=annotations.volumes["v"], directory=Path("/none"), find=lookup,
        pod_ip="10.244.1.2", host_ip="100.64.0.1", node="edge1",
    )  # fmt: skip
    with pytest.raises(Invalid, match="more than 33554432 bytes"):
        volume = registry.volume(context)
        assert isinstance(volume, Projection)
        volume.contents()


def test_literals_references_and_fields_in_the_order_of_the_manifest() -> None:
    p = with_env(
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)/$(LATER)/$$(A)"},
        {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
        {"name": "D", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        resources={"limits": {"cpu": "1500m", "memory": "10Mi"}},
    )
    assert environment(p) == {
        "A": "1", "B": "1/$(LATER)/$(A)", "C": "blue", "D": "s3cret", "IP": "10.244.1.2", "APP": "web", "CPU": "2",
        "MEM": "10",
    }  # fmt: skip


def test_env_from_comes_first_and_may_have_a_prefix() -> None:
    p = pod(
        containers=[
            container(
                envFrom=[{"prefix": "S_", "configMapRef": {"name": "settings"}}, {"secretRef": {"name": "keys"}}],
                env=[{"name": "token", "value": "mine, $(S_colour)"}],
            )
        ]
    )
    assert environment(p) == {"S_colour": "blue", "S_size": "3", "token": "mine, blue"}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"configMapKeyRef": {"name": "late", "key": "x"}}, 'configmap "late" not found'),
        ({"configMapKeyRef": {"name": "settings", "key": "x"}}, "couldn't find key x in configmap default/settings"),
        ({"secretKeyRef": {"name": "late", "key": "x"}}, 'secret "late" not found'),
        ({"secretKeyRef": {"name": "bad", "key": "token"}}, "key token is not base64"),
    ],
)
def test_what_is_missing_is_named_so_that_the_container_can_wait_for_it(source: dict[str, Any], words: str) -> None:
    with pytest.raises(resolve.Missing, match=words):
        environment(with_env({"name": "A", "valueFrom": source}))


def test_what_is_optional_may_be_missing() -> None:
    p = with_env(
        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "x", "optional": True}}},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "x", "optional": True}}},
        envFrom=[{"secretRef": {"name": "late", "optional": True}}],
    )
    assert environment(p) == {}


def test_volumes_have_all_keys_or_the_chosen_ones_under_their_paths() -> None:
    assert files({"configMap": {"name": "settings"}}) == {
        "colour": (b"blue", None), "size": (b"3", None), "raw": (b"\x00\x01", None),
    }  # fmt: skip
    items = [{"key": "token", "path": "a/b", "mode": 0o400}]
    assert files({"secret": {"secretName": "keys", "items": items}}) == {"a/b": (b"s3cret", 0o400)}
    with pytest.raises(resolve.Missing, match="has no key x"):
        files({"configMap": {"name": "settings", "items": [{"key": "x", "path": "x"}]}})
    assert files({"configMap": {"name": "late", "optional": True}}) == {}


def test_projected_and_downward_volumes_join_their_sources() -> None:
    projected = [
        {"configMap": {"name": "settings", "items": [{"key": "colour", "path": "c"}]}},
        {"secret": {"name": "keys"}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    assert files({"projected": {"sources": projected}}) == {
        "c": (b"blue", None), "token": (b"s3cret", None), "labels": (b'a="1"\nb="2"', None),
    }  # fmt: skip
    with pytest.raises(Invalid, match="clusterTrustBundle"):
        files({"projected": {"sources": [{"clusterTrustBundle": {}}]}})


def test_annotations_are_quoted_so_that_each_has_one_line() -> None:
    """As with the kubelet."""
    text = '{"a":"b\\c"}\n\tcafé \x07\x7f\u2028\U000e0001'
    source = {"items": [{"path": "all", "fieldRef": {"fieldPath": "metadata.annotations"}}]}
    content, _ = files({"downwardAPI": source}, x=text, y="")["all"]
    assert content.decode() == r'x="{\"a\":\"b\\c\"}\n\tcafé \a\x7f\u2028\U000e0001"' + '\ny=""'


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "..data", "..1/x", "", ".", "a/..data", "x\0y"])
def test_a_path_that_leaves_the_volume_or_is_ours_is_refused(path: str) -> None:
    with pytest.raises(Invalid):
        resolve.safe_path(path)


def test_keys_of_a_hostile_configmap_are_no_paths_out_of_the_volume() -> None:
    with pytest.raises(Invalid):
        files({"configMap": {"name": "hostile"}})


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["name", "key", "items", "path", "mode", "fieldRef", "fieldPath", "resource", "divisor",
                         "sources", "configMap", "secret", "downwardAPI", "optional", "resourceFieldRef"]),
        inner, max_size=3,
    ),
    max_leaves=8,
)  # fmt: skip


@given(kind=st.sampled_from(["configMap", "secret", "projected", "downwardAPI"]), value=_json)
def test_garbage_in_a_volume_is_an_error_of_ours(kind: str, value: Any) -> None:
    try:
        files({kind: value})
    except KubeEdgeError:
        pass


@given(kind=st.sampled_from(["configMapKeyRef", "secretKeyRef", "fieldRef", "resourceFieldRef", "else"]), value=_json)
def test_garbage_in_a_reference_is_an_error_of_ours(kind: str, value: Any) -> None:
    try:
        environment(parse(manifest(containers=[container(env=[{"name": "A", "valueFrom": {kind: value}}])])))
    except KubeEdgeError:
        pass


def test_a_limit_that_is_not_set_is_what_the_node_has_and_another_container_may_be_meant() -> None:
    def of(resource: str, **fields: str) -> dict[str, Any]:
        return {"name": resource.replace(".", "_"), "valueFrom": {"resourceFieldRef": {"resource": resource, **fields}}}

    env = [of("limits.cpu"), of("limits.memory", divisor="1Mi"), of("requests.memory", containerName="other")]
    env += [of("limits.ephemeral-storage"), of("requests.ephemeral-storage", containerName="other", divisor="1Ki")]
    other = container(
        "other", resources={"limits": {"memory": "8Mi", "hugepages-2Mi": "4Mi", "ephemeral-storage": "3Mi"}}
    )
    p = pod(containers=[container(env=[*env, of("limits.hugepages-2Mi", containerName="other")]), other])
    has = {"cpu": 1500, "memory": 64 << 20, "ephemeral-storage": 7 << 20}
    found = resolve.environment(
        p, p.containers[0], lookup, pod_ip="", host_ip="", node="", allocatable=has
    )  # fmt: skip
    assert found == {
        "limits_cpu": "2", "limits_memory": "64", "requests_memory": str(8 << 20), "limits_hugepages-2Mi": str(4 << 20),
        "limits_ephemeral-storage": str(7 << 20), "requests_ephemeral-storage": "3072",
    }  # fmt: skip


def test_fields_of_addresses_are_the_first_one_or_all_of_them() -> None:
    p = pod()
    found = {
        path: resolve.field(p, path, pod_ip="10.1.1.1,fd00::1", host_ip="100.64.0.1,fd01::1", node="n")
        for path in ("status.podIP", "status.podIPs", "status.hostIP", "status.hostIPs")
    }
    assert list(found.values()) == ["10.1.1.1", "10.1.1.1,fd00::1", "100.64.0.1", "100.64.0.1,fd01::1"]
