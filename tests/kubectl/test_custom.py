"""A custom resource in the embedded API, seen with kubectl: registered at run time, used, and taken out again."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from kubeedge.api import meta
from kubeedge.api.client import Resource
from kubeedge.api.names import Object
from kubeedge.api.resources import Printer, Row, Strategy
from kubeedge.api.status import FieldError, required
from kubeedge.apiserver.durations import age
from kubeedge.apiserver.printers import columns
from tests.kubectl.conftest import Cluster, Kubectl

# The plural and the kind are those of a built-in resource, of another group: nothing of the built-in one may be taken for it.
SERVICES = Resource("serving.example.com", "v1alpha1", "services", "Service")
SENSORS = Resource("devices.example.com", "v1", "sensors", "Sensor")

SENSOR = """
apiVersion: devices.example.com/v1
kind: Sensor
metadata: {name: cellar, labels: {at: home}}
spec: {unit: celsius, limits: [{name: low, at: 5}, {name: high, at: 20}]}
"""


def _rules(obj: Object) -> list[FieldError]:
    return [] if (obj.get("spec") or {}).get("unit") else [required("spec.unit")]


def _fill(obj: Object) -> None:
    if isinstance(obj.get("spec"), dict):
        obj["spec"].setdefault("interval", 60)


def _cells(obj: Object, now: float) -> tuple[object, ...]:
    return (
        meta.name_of(obj),
        obj["spec"].get("unit"),
        (obj.get("status") or {}).get("reading", "<none>"),
        age(meta.metadata(obj).get("creationTimestamp"), now),
    )


ROW = Row(
    SENSORS,
    "sensor",
    ("sen",),
    ("all",),
    ("status",),
    ("spec.unit",),
    counts_generation=True,
    strategy=Strategy(fill=_fill, validate=_rules),
    printer=Printer(columns("Name, Unit, Reading, Age"), _cells),
)


@pytest.fixture
def sensors(cluster: Cluster) -> Iterator[None]:
    registry = cluster.registry

    async def register() -> None:
        registry.served.register(ROW)
        registry.served.register(Row(SERVICES, "service"))

    async def remove() -> None:
        for resource in (SENSORS, SERVICES):
            if registry.served.by_path(resource.group, resource.version, resource.plural):
                await registry.unregister(resource)

    cluster.call(register())
    yield
    cluster.call(remove())


@pytest.fixture
def inside(namespace: str) -> tuple[str, str]:
    return "-n", namespace


def test_it_is_discovered_with_its_names(kubectl: Kubectl, sensors: None) -> None:
    lines = [line.split() for line in kubectl("api-resources").splitlines()]
    assert ["sensors", "sen", "devices.example.com/v1", "true", "Sensor"] in lines
    assert ["services", "serving.example.com/v1alpha1", "true", "Service"] in lines
    assert "devices.example.com/v1" in kubectl("api-versions").split()


def test_it_lives_as_a_built_in_object_does(
    kubectl: Kubectl, cluster: Cluster, sensors: None, inside: tuple[str, str]
) -> None:
    kubectl("api-resources")
    assert kubectl("apply", *inside, "-f", "-", stdin=SENSOR) == "sensor.devices.example.com/cellar created\n"
    assert kubectl("apply", *inside, "-f", "-", stdin=SENSOR) == "sensor.devices.example.com/cellar unchanged\n"
    changed = SENSOR.replace("at: 20", "at: 25").replace("{name: low, at: 5}, ", "")
    assert kubectl("apply", *inside, "-f", "-", stdin=changed) == "sensor.devices.example.com/cellar configured\n"
    kubectl("apply", *inside, "--server-side", "--force-conflicts", "-f", "-", stdin=changed)
    found = json.loads(kubectl("get", *inside, "sen/cellar", "-o", "json"))
    assert found["spec"] == {"unit": "celsius", "limits": [{"name": "high", "at": 25}], "interval": 60}
    assert found["metadata"]["generation"] == 2
    header, row = kubectl("get", *inside, "sensors").splitlines()
    assert header.split() == ["NAME", "UNIT", "READING", "AGE"] and row.split()[:3] == ["cellar", "celsius", "<none>"]
    assert "sensor.devices.example.com/cellar" in kubectl("get", *inside, "all", "-o", "name")
    assert "cellar" in kubectl("get", *inside, "sensors", "-l", "at=home", "--field-selector", "spec.unit=celsius")
    assert kubectl("get", *inside, "sensors", "--field-selector", "spec.unit=kelvin", "-o", "name") == ""
    kubectl("patch", *inside, "sensor", "cellar", "--type=merge", "-p", '{"status": {"reading": "1"}}')
    assert kubectl("get", *inside, "sensors").splitlines()[1].split()[2] == "<none>", "status has an address of its own"
    namespace, reading = inside[1], {"status": {"reading": "8"}}
    cluster.call(cluster.registry.merge_patch(SENSORS, namespace, "cellar", reading, subresource="status"))
    assert kubectl("get", *inside, "sensors").splitlines()[1].split()[2] == "8"
    described = kubectl("describe", *inside, "sensor", "cellar")
    assert "celsius" in described and "API Version:  devices.example.com/v1" in described
    kubectl("label", *inside, "sensor", "cellar", "floor=0")
    assert 'sensor.devices.example.com "cellar" deleted' in kubectl("delete", *inside, "sensor", "cellar")


def test_it_is_validated_and_nobody_knows_how_its_lists_merge(
    kubectl: Kubectl, sensors: None, inside: tuple[str, str]
) -> None:
    kubectl("api-resources")
    assert "spec.unit: Required value" in kubectl.fails(
        "apply", *inside, "-f", "-", stdin=SENSOR.replace("unit: celsius, ", "")
    )
    kubectl("apply", *inside, "-f", "-", stdin=SENSOR)
    said = kubectl.fails("patch", *inside, "sensor", "cellar", "--type=strategic", "-p", '{"spec": {"unit": "K"}}')
    assert "strategic merge patch is not supported" in said or "application/merge-patch+json" in said


def test_a_watch_follows_it(kubectl: Kubectl, sensors: None, inside: tuple[str, str]) -> None:
    kubectl("api-resources")
    kubectl("apply", *inside, "-f", "-", stdin=SENSOR)
    with kubectl.started("get", *inside, "sensors", "-w", "--output-watch-events", "-o", "name") as watching:
        assert watching.stdout is not None
        assert "cellar" in watching.stdout.readline()
        kubectl("label", *inside, "sensor", "cellar", "floor=0")
        assert "cellar" in watching.stdout.readline()
        kubectl("delete", *inside, "sensor", "cellar")
        assert "cellar" in watching.stdout.readline()


def test_a_kind_of_a_built_in_name_is_itself(kubectl: Kubectl, sensors: None, inside: tuple[str, str]) -> None:
    kubectl("api-resources")
    body = "apiVersion: serving.example.com/v1alpha1\nkind: Service\nmetadata: {name: web}\nspec: {immutable: true, ports: none}\n"
    kubectl("apply", *inside, "-f", "-", stdin=body)
    found = json.loads(kubectl("get", *inside, "services.serving.example.com", "web", "-o", "json"))
    assert found["spec"] == {"immutable": True, "ports": "none"}, "no address, no defaults, no rules of Services"
    assert kubectl("get", *inside, "services", "-o", "name") == ""


def test_it_is_taken_out_with_its_objects(
    kubectl: Kubectl, cluster: Cluster, sensors: None, inside: tuple[str, str]
) -> None:
    kubectl("api-resources")
    kubectl("apply", *inside, "-f", "-", stdin=SENSOR)
    cluster.call(cluster.registry.unregister(SENSORS))
    assert "sensors" not in kubectl("api-resources", "--cached=false")
    assert "the server doesn't have a resource type" in kubectl.fails("get", *inside, "sensors")
    cluster.call(_register(cluster))
    kubectl("api-resources", "--cached=false")
    assert kubectl("get", *inside, "sensors", "-o", "name") == "", "nothing was left behind"


async def _register(cluster: Cluster) -> None:
    cluster.registry.served.register(ROW)


def test_the_other_tenant_has_none_of_it(kubectl: Kubectl, cluster: Cluster, sensors: None) -> None:
    other = cluster.kubectl(kubectl.binary, "b")
    assert "sensors" not in other("api-resources")
    assert "could not find the requested resource" in other.fails(
        "get", "--raw", "/apis/devices.example.com/v1/sensors"
    )


@pytest.mark.parametrize("kubectl", ["newest"], indirect=True)  # Debian's explains by version 2, which has no types
def test_explain_knows_its_metadata(kubectl: Kubectl, sensors: None) -> None:
    said = kubectl("explain", "sensors")
    assert said.startswith("GROUP:      devices.example.com\nKIND:       Sensor\nVERSION:    v1\n")
    assert "metadata\t<ObjectMeta>" in said
    assert "FIELD: labels <map[string]string>" in kubectl("explain", "sensors.metadata.labels")
