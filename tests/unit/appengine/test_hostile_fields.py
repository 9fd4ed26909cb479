"""Every field that a Pod's schema has, with text and numbers that nobody means well with: the API refuses it, or a node runs it or says what is wrong.

The cases are made from the schema, so a field that is new there is tried, too. What is accepted goes through everything that reads pods: the
API's own printer, the scheduler, the copies for a node, the node's parser, its files, and the container's specification for the OCI runtime.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api import managed_fields, schema, strict_json
from kubeedge.api.names import Object
from kubeedge.api.pod import Pod, Unsupported
from kubeedge.api.pod_parser import parse
from kubeedge.api.resources import PODS, Row
from kubeedge.api.status import StatusError
from kubeedge.apiserver import core as apiserver_core
from kubeedge.apiserver import devices
from kubeedge.apiserver.builtin import BUILT_IN
from kubeedge.apiserver.core import WriteOptions
from kubeedge.appengine import logs, resolve
from kubeedge.appengine.prepare import Preparer, sandbox_config
from kubeedge.appengine.runtime import oci_spec, sandbox_files
from kubeedge.appengine.runtime.base import BindMount, ClusterDns, StartError
from kubeedge.appengine.runtime.image_config import ImageConfig
from kubeedge.appengine.runtime.oci_spec import ContainerUser, Namespaces
from kubeedge.errors import Invalid, KubeEdgeError
from kubeedge_cloud.controllers.scheduler.core import SchedulerCache, info_of
from kubeedge_cloud.controllers.taints.core import stay
from kubeedge_cloud.edgecontroller import node_objects

MEGABYTE = "x" * 1024 * 1024
TEXTS = {
    "cr": "a\rb", "lf": "a\nb", "crlf": "a\r\nX-Injected: 1\r\n\r\n", "nul": "a\0b", "path": "/../", "up": "../../etc/passwd",
    "colon": "/a:b", "comma": "a,b=c", "controls": "\x1b[2J\x85\u2028\u202e\ufeff", "blank": " ", "empty": "",
    "option": "-rf", "expansion": "$(" * 40 + "A" + ")" * 40, "megabyte": MEGABYTE,
}  # fmt: skip
NUMBERS = (-1, 0, 1, 2**31 - 1, -(2**31), 2**31, 2**62, 2**63 - 1, -(2**63), 2**64)
QUANTITIES = ("-1", "0", "1e30", "9" * 400, "1e-30", "1Ei", "\n1", "1 ", 2**62)
ANYTHING: tuple[Any, ...] = (1, "x", [], [1], {}, {"a": 1}, [{}], [[[]]], {"type": [1], "name": {}}, True)
(POD,) = (row for row in BUILT_IN if row.resource == PODS)

#: what a value of a type has to have, so that it is good but for the field in question
LEAST: dict[str, Object] = {
    "PodSpec": {"containers": [{"name": "main", "image": "demo:1"}]},
    "Container": {"name": "other", "image": "demo:1"},
    "Volume": {"name": "v"},
    "VolumeMount": {"name": "data", "mountPath": "/data"},
    "EnvVar": {"name": "A"},
    "KeyToPath": {"key": "k", "path": "p"},
    "DownwardFile": {"path": "p", "fieldRef": {"fieldPath": "metadata.name"}},
    "KeyRef": {"name": "c", "key": "k", "optional": True},
    "OptionalRef": {"name": "c", "optional": True},
    "FieldRef": {"fieldPath": "metadata.name"},
    "ResourceFieldRef": {"resource": "limits.cpu"},
    "ConfigMapVolume": {"name": "c", "optional": True},
    "SecretVolume": {"secretName": "s", "optional": True},
    "ProjectedSecret": {"name": "s", "optional": True},
    "HostPath": {"path": "/tmp"},
    "ImageVolume": {"reference": "demo:1"},
    "ContainerPort": {"containerPort": 80},
    "HTTPGet": {"port": 80},
    "TCPSocket": {"port": 80},
    "GRPCAction": {"port": 80},
    "ExecAction": {"command": ["true"]},
    "HTTPHeader": {"name": "X-A", "value": "b"},
    "HostAlias": {"ip": "10.0.0.1", "hostnames": ["a"]},
    "Toleration": {"key": "a", "operator": "Exists", "effect": "NoExecute"},
    "Sysctl": {"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"},
    "LocalRef": {"name": "a"},
    "TopologySpread": {"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "ScheduleAnyway"},
    "Expression": {"key": "a", "operator": "In", "values": ["b"]},
    "PreferredTerm": {"weight": 1, "preference": {}},
    "RestartRule": {"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}},
    "RestartExitCodes": {"operator": "In", "values": [1]},
    "ReadinessGate": {"conditionType": "example.com/a"},
    "ResizePolicy": {"resourceName": "cpu", "restartPolicy": "NotRequired"},
}  # fmt: skip
HANDLERS = {"exec", "httpGet", "tcpSocket", "grpc", "sleep"}
#: fields of a type of which one alone may be there
ONE_OF: dict[str, set[str]] = {
    "Probe": HANDLERS, "LifecycleHandler": HANDLERS, "EnvSource": set(schema.types()["EnvSource"]),
    "Volume": set(schema.types()["Volume"]) - {"name"}, "Projection": set(schema.types()["Projection"]),
    "EnvFrom": {"configMapRef", "secretRef"}, "DownwardFile": {"fieldRef", "resourceFieldRef"},
}  # fmt: skip


def fields_of_kind(kind: str) -> Iterator[tuple[str, schema.Field, Any]]:
    """As places(), of a whole object without the parts of a pod's specification, which have their own cases."""
    base = {"metadata": {"name": "p"}, **OBJECTS.get(kind, {})}
    yield from places(kind, base, kind, ("PodSpec",))


def places(kind: str, base: Object, path: str, seen: tuple[str, ...] = ()) -> Iterator[tuple[str, schema.Field, Any]]:
    """(path, field, function that gives the PodSpec with a value at it) of each field of each type that `base` can have."""
    for name, field in schema.types()[kind].items():
        where = f"{path}.{name}"

        def put(value: Any, name: str = name) -> Object:
            rest = {
                k: v for k, v in base.items() if k == name or name not in ONE_OF.get(kind, ()) or k not in ONE_OF[kind]
            }
            if kind == "PodSpec" and name != "volumes":
                rest.setdefault("volumes", [{"name": "data", "emptyDir": {}}])
            return {**copy.deepcopy(rest), name: value}

        yield where, field, put
        if field.type not in schema.types() or field.type in seen:
            continue
        inner = LEAST.get(field.type, {})
        there = base.get(name)
        if isinstance(there, list) and there:
            there = there[0]
        if isinstance(there, dict):
            inner = there
        for below, found, change in places(field.type, inner, where, (*seen, field.type)):
            wrap = {"one": lambda v: v, "list": lambda v: [v], "map": lambda v: {"a": v}}[field.shape]
            yield below, found, lambda value, put=put, wrap=wrap, change=change: put(wrap(change(value)))


def shaped(field: schema.Field, values: Any) -> Iterator[tuple[str, Any]]:
    for label, value in values:
        match field.shape:
            case "list":
                yield label, [value]
            case "map":
                yield label, {"a": value}
                if isinstance(value, str) and value:
                    yield f"{label}-key", {value: "1"}
            case _:
                yield label, value


def values_of(field: schema.Field) -> Iterator[tuple[str, Any]]:
    match field.type:
        case "str" | "time":
            yield from shaped(field, TEXTS.items())
        case "int" | "long" | "num":
            yield from shaped(field, ((str(n), n) for n in NUMBERS))
        case "quantity":
            yield from shaped(field, ((str(q)[:8], q) for q in QUANTITIES))
        case "intorstr":
            yield from shaped(field, (*TEXTS.items(), *((str(n), n) for n in NUMBERS)))
        case "any":
            yield from ((repr(value), value) for value in ANYTHING)
        case _:
            yield "empty", {"one": {}, "list": [], "map": {}}[field.shape]


#: objects of the other kinds that are good
OBJECTS: dict[str, Object] = {
    "Deployment": {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": LEAST["PodSpec"]}}},
    "Service": {"spec": {"ports": [{"port": 80}]}},
    "EndpointSlice": {"addressType": "IPv4", "endpoints": [], "ports": []},
    "Event": {"involvedObject": {"namespace": "default"}},
}  # fmt: skip
OBJECTS |= {"ReplicaSet": OBJECTS["Deployment"], "DaemonSet": OBJECTS["Deployment"]}
CASES = [(path, field, put) for path, field, put in places("PodSpec", LEAST["PodSpec"], "spec")]


class Machine:
    """What reads a pod behind the API, with real files in a directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.preparer = Preparer(node="edge1", host_ip="10.0.0.1", state=folder, log_root=folder / "logs")
        self.preparer.keep("configmaps", "default", "c", {"data": {"k": "v"}})
        self.nodes = SchedulerCache()
        taint = {"key": "a", "effect": "NoExecute"}
        self.nodes.set_node({"metadata": {"name": "edge1"}, "spec": {"taints": [taint]}, "status": {"allocatable": {"cpu": "4", "memory": "4Gi", "pods": "110"}}})  # fmt: skip
        self.taint = taint

    def cloud(self, row: Row, obj: Object) -> None:
        assert row.printer is not None
        row.printer.cells(obj, 0.0)
        json.dumps(apiserver_core.without_version(obj)).encode()
        self.nodes.schedule(obj)
        info_of(obj)
        stay(obj["spec"].get("tolerations") or (), [self.taint])
        node_objects.pod(obj)
        list(node_objects.references(obj))
        apiserver_core.delete(row, obj, apiserver_core.DeleteOptions(), now=0.0)

    def node(self, obj: Object) -> str:
        """What it would run, or "" with a clear reason not to."""
        try:
            pod = parse(obj)
            return self._prepared(pod)
        except (Invalid, Unsupported, resolve.Missing, StartError, OSError) as exc:
            assert str(exc)
            return ""

    def _prepared(self, pod: Pod) -> str:
        dns = ClusterDns("10.0.0.10", "cluster.local")
        sandbox_files.write_etc(
            self.folder / "etc", sandbox_config(pod, logs.directory(self.folder, "default", "p", "u")), "10.1.1.1", dns
        )
        lines = (self.folder / "etc/hosts").read_text().splitlines()
        assert len(lines) == 4 + len(pod.host_aliases), lines
        for line in (self.folder / "etc/resolv.conf").read_text().splitlines():
            assert line.split(" ")[0] in ("nameserver", "search", "options"), line
        specs = []
        for container in pod.all_containers:
            on_disk = [
                m
                for m in container.mounts
                if pod.image_of(m) is None and pod.volumes[m.name].kind in ("hostPath", "image")
            ]
            env = resolve.environment(
                pod, container, self.preparer.find, pod_ip="10.1.1.1", host_ip="10.0.0.1", node="edge1"
            )
            spec = oci_spec.build(
                container, ImageConfig((), ("true",), (), "/", ""), user=ContainerUser(0, 0, (), "/root"), rootfs=self.folder, env=env,
                mounts=[BindMount(self.folder, m.path) for m in on_disk], namespaces=Namespaces("", "", ""), cgroup="/x", oom_score_adj=0,
                capabilities=None, groups=pod.groups,
            )  # fmt: skip
            text = json.dumps(spec)
            assert "\\u0000" not in text and all("\0" not in value for value in env.values())
            assert spec["process"]["cwd"].startswith("/")
            specs.append(text)
        return "".join(specs)


@pytest.mark.parametrize(("path", "field", "put"), CASES, ids=[path for path, _, _ in CASES])
def test_a_field_is_refused_or_run(path: str, field: schema.Field, put: Any, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for label, value in values_of(field):
        spec = put(value)
        sent = {"metadata": {"name": "p", "uid": "u"}, "spec": spec}
        try:
            body = strict_json.loads(json.dumps(sent).encode(), what="the body")
        except KubeEdgeError:
            continue  # a number beyond JSON's of Kubernetes
        machine.node(body)  # a cluster of a user's own may have accepted it
        try:
            made = apiserver_core.create(POD, "default", body, WriteOptions(), now=0.0, randbytes=os.urandom)
        except StatusError as exc:
            assert exc.code in (400, 413, 422), (label, exc)
            continue
        machine.cloud(POD, made)
        machine.node(made)


ROWS = (*BUILT_IN, *devices.ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row.resource.kind for row in ROWS])
def test_what_is_accepted_can_be_shown_changed_and_deleted(row: Row) -> None:
    """One object that cannot be printed would be the end of every list that it is in."""
    assert row.printer is not None
    for path, field, put in fields_of_kind(row.strategy.schema):
        for label, value in values_of(field):
            if value is MEGABYTE or value == [MEGABYTE]:
                continue
            body = put(value)
            try:
                made = apiserver_core.create(row, "default", body, WriteOptions(), now=0.0, randbytes=os.urandom)
                if row.has_status and "status" in body:
                    changed = {**made, "status": body["status"]}
                    made = apiserver_core.update(row, made, changed, "status", WriteOptions(), now=1.0)
            except StatusError as exc:
                assert exc.code in (400, 413, 422), (path, label, exc)
                continue
            try:
                cells = row.printer.cells(made, 1.0)
                json.dumps(cells).encode()
                again = apiserver_core.update(row, made, copy.deepcopy(made), "", WriteOptions(manager="me"), now=2.0)
                managed_fields.applied(
                    row.strategy.schema, again, {"metadata": {"name": "p"}}, "you", force=True, now=3.0
                )
                apiserver_core.delete(row, again, apiserver_core.DeleteOptions(), now=3.0)
            except StatusError:
                continue
            except Exception as exc:
                raise AssertionError(f"{path} = {label}: {value!r:.200}") from exc
