"""Defaults of the main kinds, as a Kubernetes user expects to read them back. Objects are changed in place.

Called with objects whose types were checked (schema.check); the functions with the name of a kind are its strategy's `fill`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from kubeedge.api.names import Object

DEFAULT_GRACE = 30  # seconds between SIGTERM and SIGKILL
_MODE = 0o644


def pod_spec(spec: Object) -> None:
    """Defaults of a PodSpec, of a pod or of a template."""
    _default(spec, "restartPolicy", "Always")
    _default(spec, "terminationGracePeriodSeconds", DEFAULT_GRACE)
    _default(spec, "dnsPolicy", "ClusterFirst")
    _default(spec, "securityContext", {})
    _default(spec, "schedulerName", "default-scheduler")
    _default(spec, "enableServiceLinks", True)
    if spec.get("serviceAccountName"):
        _default(spec, "serviceAccount", spec["serviceAccountName"])
    for each in (*containers(spec), *_objects(spec.get("ephemeralContainers"))):
        container(each)
    for volume in _objects(spec.get("volumes")):
        _volume(volume)


def containers(spec: Object) -> Iterator[Object]:
    """Init containers first, as they run."""
    yield from _objects(spec.get("initContainers"))
    yield from _objects(spec.get("containers"))


def _objects(value: Any) -> Iterator[Object]:
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, dict))


def _default(obj: Object, key: str, value: Any) -> None:
    if obj.get(key) is None:
        obj[key] = value


def _inner(obj: Object, key: str) -> Object:
    """obj[key], created when it is missing."""
    found = obj.get(key)
    if not isinstance(found, dict):
        found = obj[key] = {}
    return found


def image_pull_policy(image: str) -> str:
    """Always for `:latest`, said or implied; IfNotPresent otherwise."""
    if "@" in image:
        return "IfNotPresent"
    tag = image.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def container(container: Object) -> None:
    """Defaults of a Container, also of an ephemeral one."""
    _default(container, "imagePullPolicy", image_pull_policy(str(container.get("image") or "")))
    _default(container, "terminationMessagePath", "/dev/termination-log")
    _default(container, "terminationMessagePolicy", "File")
    resources = _inner(container, "resources")
    limits = resources.get("limits")
    if isinstance(limits, dict) and limits:
        requests = _inner(resources, "requests")
        for name, limit in limits.items():
            _default(requests, name, limit)
    for port in _objects(container.get("ports")):
        _default(port, "protocol", "TCP")
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if isinstance(container.get(probe), dict):
            _probe(container[probe])
    lifecycle = container.get("lifecycle")
    for handler in lifecycle.values() if isinstance(lifecycle, dict) else ():
        if isinstance(handler, dict):
            _http_get(handler)
    for variable in _objects(container.get("env")):
        source = variable.get("valueFrom")
        if isinstance(source, dict) and isinstance(source.get("fieldRef"), dict):
            _default(source["fieldRef"], "apiVersion", "v1")


def _probe(probe: Object) -> None:
    _default(probe, "timeoutSeconds", 1)
    _default(probe, "periodSeconds", 10)
    _default(probe, "successThreshold", 1)
    _default(probe, "failureThreshold", 3)
    _http_get(probe)


def _http_get(handler: Object) -> None:
    request = handler.get("httpGet")
    if isinstance(request, dict):
        _default(request, "path", "/")
        _default(request, "scheme", "HTTP")


def _volume(volume: Object) -> None:
    if not any(key != "name" and value is not None for key, value in volume.items()):
        volume["emptyDir"] = {}
    for source in ("configMap", "secret", "projected", "downwardAPI"):
        if isinstance(volume.get(source), dict):
            _default(volume[source], "defaultMode", _MODE)
    if isinstance(image := volume.get("image"), dict) and image.get("reference"):
        _default(image, "pullPolicy", image_pull_policy(str(image["reference"])))
    if isinstance(volume.get("hostPath"), dict):
        _default(volume["hostPath"], "type", "")


def pod(pod: Object) -> None:
    """Defaults of a Pod, with its first status."""
    spec = _inner(pod, "spec")
    pod_spec(spec)
    status = _inner(pod, "status")
    _default(status, "phase", "Pending")
    _default(status, "qosClass", qos_class(spec))


def qos_class(spec: Object) -> str:
    """Guaranteed: the pod, or every container where it says nothing, limits CPU and memory and asks for as much; BestEffort: none asks for
    anything."""
    asked = False
    guaranteed = True
    of_pod = spec.get("resources")
    says = isinstance(of_pod, dict) and (of_pod.get("limits") or of_pod.get("requests"))
    for container in [spec] if says else containers(spec):
        resources = container.get("resources")
        resources = resources if isinstance(resources, dict) else {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        relevant = [name for name in ("cpu", "memory") if name in limits or name in requests]
        asked = asked or bool(relevant)
        if any(name not in limits or requests.get(name, limits[name]) != limits[name] for name in ("cpu", "memory")):
            guaranteed = False
    return "BestEffort" if not asked else "Guaranteed" if guaranteed else "Burstable"


def _template(spec: Object) -> None:
    template = _inner(spec, "template")
    _inner(template, "metadata")
    pod_spec(_inner(template, "spec"))


def deployment(deployment: Object) -> None:
    """Defaults of a Deployment."""
    spec = _inner(deployment, "spec")
    _default(spec, "replicas", 1)
    strategy = _inner(spec, "strategy")
    _default(strategy, "type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = _inner(strategy, "rollingUpdate")
        _default(rolling, "maxUnavailable", "25%")
        _default(rolling, "maxSurge", "25%")
    _default(spec, "revisionHistoryLimit", 10)
    _default(spec, "progressDeadlineSeconds", 600)
    _template(spec)
    _inner(deployment, "status")


def replicaset(replicaset: Object) -> None:
    """Defaults of a ReplicaSet."""
    spec = _inner(replicaset, "spec")
    _default(spec, "replicas", 1)
    _template(spec)
    _default(_inner(replicaset, "status"), "replicas", 0)


def daemonset(daemonset: Object) -> None:
    """Defaults of a DaemonSet."""
    spec = _inner(daemonset, "spec")
    strategy = _inner(spec, "updateStrategy")
    _default(strategy, "type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = _inner(strategy, "rollingUpdate")
        _default(rolling, "maxUnavailable", 1)
        _default(rolling, "maxSurge", 0)
    _default(spec, "revisionHistoryLimit", 10)
    _template(spec)
    status = _inner(daemonset, "status")
    for count in ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"):
        _default(status, count, 0)


def service(service: Object) -> None:
    """Defaults of a Service; its addresses and their families are given elsewhere (apiserver.cluster_ips)."""
    spec = _inner(service, "spec")
    _default(spec, "type", "ClusterIP")
    _default(spec, "sessionAffinity", "None")
    if spec["type"] != "ExternalName":
        _default(spec, "internalTrafficPolicy", "Cluster")
    for port in _objects(spec.get("ports")):
        _default(port, "protocol", "TCP")
        if port.get("port") is not None:
            _default(port, "targetPort", port["port"])
    _default(service, "status", {"loadBalancer": {}})


def endpointslice(obj: Object) -> None:
    """Ports are TCP and have a name, be it empty."""
    for port in _objects(obj.get("ports")):
        _default(port, "name", "")
        _default(port, "protocol", "TCP")


def networkpolicy(policy: Object) -> None:
    """Ports are TCP; a policy is about ingress, and about egress when it has rules for it."""
    spec = _inner(policy, "spec")
    _default(spec, "podSelector", {})
    _default(spec, "policyTypes", ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])
    for direction in ("ingress", "egress"):
        for rule in _objects(spec.get(direction)):
            for port in _objects(rule.get("ports")):
                _default(port, "protocol", "TCP")


def secret(secret: Object) -> None:
    """The default type; stringData is merged into data, base64-encoded."""
    _default(secret, "type", "Opaque")
    plain = secret.pop("stringData", None)
    if isinstance(plain, dict):
        data = _inner(secret, "data")
        for key, value in plain.items():
            data[key] = base64.b64encode(str(value).encode()).decode()


def namespace(namespace: Object) -> None:
    """The finalizer, phase and name label of a Namespace."""
    _default(_inner(namespace, "spec"), "finalizers", ["kubernetes"])
    _default(_inner(namespace, "status"), "phase", "Active")
    name = namespace.get("metadata", {}).get("name")
    if name:
        _inner(namespace["metadata"], "labels").setdefault("kubernetes.io/metadata.name", name)


def node(node: Object) -> None:
    """An empty spec and status, so that readers find both."""
    _inner(node, "spec")
    _inner(node, "status")
