"""Installs or upgrades the cloud side: checks, applies, removes what is no longer wanted, waits. Idempotent: a second run finds everything there."""

from __future__ import annotations

import base64
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubeedge.api.names import Object
from kubeedge.errors import Conflict, Invalid, NotFound, Refused, Unavailable, with_next
from kubeedge_cloud.authority.ca import Authority
from kubeedge_cloud.install import diagnosis, permissions
from kubeedge_cloud.install.chart import Chart
from kubeedge_cloud.install.cluster import TargetCluster
from kubeedge_cloud.install.functions import overlaid

SERVICE = "kubeedge"  # app.kubernetes.io/managed-by of what is installed here
NAME = "kubeedge-cloud"
OURS = f"app.kubernetes.io/part-of=kubeedge,app.kubernetes.io/managed-by={SERVICE}"
ANY = "app.kubernetes.io/name=kubeedge,app.kubernetes.io/component=cloud"
VALUES = f"{NAME}-values"  # the ConfigMap with the values that were given
AUTHORITY = f"{NAME}-authority"
CREATED = "kubeedge.io/created-by"  # annotation of a namespace that `init` made
#: kinds that may be left over from other values; a volume's claim and the authority never are
PRUNED = (
    ("apps/v1", "Deployment"), ("apps/v1", "DaemonSet"), ("v1", "Service"), ("v1", "ConfigMap"), ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"), ("monitoring.coreos.com/v1", "ServiceMonitor"), ("v1", "ServiceAccount"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"), ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"), ("rbac.authorization.k8s.io/v1", "Role"),
)  # fmt: skip
_NEEDED = (
    ("v1", "Namespace"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "Secret"),
    *((v, k) for v, k in PRUNED if k != "ServiceMonitor"),
)
_VERBS = ("get", "list", "create", "patch", "delete")
_POLL = 0.25  # seconds between two looks at a Deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallRequest:
    """What is to be installed. `values` go over those of an earlier run, unless `anew`."""

    namespace: str = "kubeedge"
    values: Mapping[str, Any] = field(default_factory=dict)
    manifests: Sequence[Object] = ()  # more of the user's own, applied after ours
    anew: bool = False
    must_exist: bool = False  # an upgrade
    force: bool = False  # take fields over that others have set
    dry_run: bool = False
    check: bool = True
    wait: float = 0.0  # seconds; 0: do not wait


@dataclass(slots=True)
class Installer:
    """`say` prints a line of progress."""

    cluster: TargetCluster
    chart: Chart
    say: Callable[[str], None]

    def run(self, request: InstallRequest) -> Mapping[str, Any]:
        """The values that are in force. Raises KubeEdgeError."""
        version = self.cluster.version()
        self.say(f"{self.cluster.server} runs Kubernetes {version}")
        if request.check:
            self._rights(request)
        self._others(request)
        before = self._stored(request.namespace)
        if request.must_exist and before is None:
            raise with_next(
                NotFound(f"nothing is installed in namespace {request.namespace}"),
                "kubeedge init --kube-config FILE --advertise HOST",
            )
        given = overlaid({} if request.anew or before is None else before, request.values)
        given = self._with_authority(given, request)
        values = self.chart.values(given)
        rendered = self.chart.render(given, namespace=request.namespace, service=SERVICE)
        objects = [
            namespace_object(request.namespace, values),
            *rendered,
            _values(request.namespace, given),
            *request.manifests,
        ]
        self._apply(objects, request)
        if not request.dry_run:
            self._prune(objects, request.namespace)
            if request.wait:
                self._wait(request)
        return values

    def _others(self, request: InstallRequest) -> None:
        """Two would both be the edge nodes' cloud."""
        for found in self.cluster.list("apps/v1", "Deployment", selector=ANY):
            metadata = found["metadata"]
            manager = metadata["labels"].get("app.kubernetes.io/managed-by")
            if metadata["namespace"] != request.namespace:
                raise with_next(
                    Conflict(f"this cluster has a cloud side already, in namespace {metadata['namespace']}"),
                    f"change that one with --namespace {metadata['namespace']}, or remove it first",
                )
            if manager != SERVICE:
                raise with_next(
                    Conflict(
                        f"the cloud side in namespace {request.namespace} is managed by {manager or 'somebody else'}"
                    ),
                    "helm upgrade" if manager == "Helm" else "change it in the way it was installed",
                )
        if self.cluster.get("apps/v1", "Deployment", "cloudcore", "kubeedge") is not None:
            raise with_next(
                Conflict("this cluster has another KubeEdge, whose cloudcore runs in namespace kubeedge"),
                "remove it first: both would serve the same edge nodes",
            )

    def _stored(self, namespace: str) -> dict[str, Any] | None:
        found = self.cluster.get("v1", "ConfigMap", VALUES, namespace)
        if found is None:
            return None
        try:
            values = json.loads(found.get("data", {}).get("values.json", ""))
        except ValueError as exc:
            raise with_next(Invalid(f"ConfigMap {namespace}/{VALUES} is damaged: {exc}"), "--reset-values") from exc
        return values if isinstance(values, dict) else {}

    def _with_authority(self, given: dict[str, Any], request: InstallRequest) -> dict[str, Any]:
        """Replicas on etcd need one that they share; it is made once and never replaced."""
        if not given.get("store", {}).get("etcd", {}).get("endpoints") or given.get("authority", {}).get("secret"):
            return given
        if not request.dry_run and self.cluster.get("v1", "Secret", AUTHORITY, request.namespace) is None:
            self.cluster.apply(namespace_object(request.namespace, self.chart.values(given)), force=request.force)
            self.cluster.apply(_authority(request.namespace))
            self.say(f"made a certificate authority: Secret {request.namespace}/{AUTHORITY}; keep a copy of it")
        return overlaid(given, {"authority": {"secret": AUTHORITY}})

    def _rights(self, request: InstallRequest) -> None:
        """Everything that is missing at once, instead of the first refusal. Making a ClusterRole takes the rights that it gives, too."""
        namespace, rules = request.namespace, list(permissions.RULES)
        if request.values.get("kubelets", {}).get("approveCertificates"):
            rules += permissions.APPROVAL_RULES
        if request.values.get("gateways", {}).get("enabled"):
            rules += permissions.GATEWAY_RULES
        needed = list(_NEEDED)
        if request.values.get("devices", {}).get("enabled"):
            rules += permissions.DEVICE_RULES
            needed.append(("apiextensions.k8s.io/v1", "CustomResourceDefinition"))
        if self.cluster.may("*", "*", "*"):
            return
        asked = []
        for api_version, kind in needed:
            group, resource, namespaced = self.cluster.resource(api_version, kind)
            asked += [(verb, group, resource, namespace if namespaced else "") for verb in _VERBS]
        asked += [(verb, group, resource, "") for rule in rules for group, resource, verb in rule.asked()]
        missing = [right for right in asked if not self.cluster.may(*right)]
        if missing:
            raise with_next(
                Refused(f"the user of {self.cluster.source} may not: {permissions.summary(missing)}"),
                "ask for these rights, or have somebody apply what `kubeedge manifest generate` prints",
            )

    def _apply(self, objects: Sequence[Object], request: InstallRequest) -> None:
        exists = self.cluster.get("v1", "Namespace", request.namespace) is not None
        for each in objects:
            what = f"{each['kind']} {each['metadata']['name']}"
            if request.dry_run and not exists and each["metadata"].get("namespace"):
                self.say(f"{what}: would be created")
                continue
            try:
                _, done = self.cluster.apply(each, force=request.force, dry_run=request.dry_run)
            except Conflict as exc:
                raise with_next(Conflict(f"{what}: {exc}"), "--force takes these fields over") from exc
            except (Refused, Invalid, NotFound, Unavailable) as exc:
                named = type(exc)(f"{what}: {exc}")
                for advice in getattr(exc, "__notes__", ()):
                    named.add_note(advice)
                raise named from exc
            if each["kind"] == "Namespace" and done == "created" and not request.dry_run:
                self._mark_as_ours(each)
            self.say(f"{what}: {f'would be {done}' if request.dry_run and done != 'unchanged' else done}")

    def _mark_as_ours(self, namespace: Object) -> None:
        """Once: one that was there before is the user's, and stays when we go."""
        patch = {"metadata": {"annotations": {CREATED: "kubeedge-init"}}}
        path = self.cluster.path_of(namespace)
        self.cluster.request("PATCH", path, patch, content_type="application/merge-patch+json")

    def _prune(self, objects: Sequence[Object], namespace: str) -> None:
        wanted = {(each["kind"], each["metadata"]["name"]) for each in objects}
        for each in installed(self.cluster, namespace):
            if (each["kind"], each["metadata"]["name"]) not in wanted and self.cluster.delete(each):
                self.say(f"{each['kind']} {each['metadata']['name']}: removed, no value asks for it any more")

    def _wait(self, request: InstallRequest) -> None:
        began, said = time.monotonic(), ""
        while True:
            found = self.cluster.get("apps/v1", "Deployment", NAME, request.namespace) or {}
            ready, text = readiness(found)
            if ready:
                self.say(f"Deployment {NAME}: Ready after {time.monotonic() - began:.1f} s")
                for warning in diagnosis.without_address(self.cluster, request.namespace):
                    self.say(f"warning: {warning}")
                return
            if text != said:
                self.say(f"Deployment {NAME}: {text}")
                said = text
            if time.monotonic() - began > request.wait:
                why = diagnosis.reasons(self.cluster, request.namespace)
                raise with_next(
                    Unavailable(f"not Ready within {request.wait:g} s: {'; '.join(why) or text}"),
                    self.cluster.diagnose(request.namespace),
                )
            time.sleep(_POLL)


def readiness(deployment: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether all replicas of its newest version are available, and how many are."""
    spec, status = deployment.get("spec", {}), deployment.get("status", {})
    wanted = spec.get("replicas", 1)
    seen = status.get("observedGeneration", 0) >= deployment.get("metadata", {}).get("generation", 1)
    updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    total = status.get("replicas", 0)
    done = seen and updated == available == total == wanted
    return done, f"{min(updated, available) if seen else 0} of {wanted} available"


def installed(cluster: TargetCluster, namespace: str) -> list[Object]:
    """What `init` has made and may remove: no data."""
    found: list[Object] = []
    for api_version, kind in PRUNED:
        try:
            namespaced = cluster.resource(api_version, kind)[2]
        except NotFound:
            continue
        found += cluster.list(api_version, kind, namespace if namespaced else "", OURS)
    return found


def namespace_object(name: str, values: Mapping[str, Any]) -> Object:
    """Pod Security `restricted`, unless what the values ask for needs more: the machine's network or a device of it."""
    needs_more = values["expose"]["type"] == "HostNetwork" or values["tun"]["enabled"] or values["router"]["enabled"]
    level = "privileged" if needs_more else "restricted"
    labels = {f"pod-security.kubernetes.io/{mode}": level for mode in ("enforce", "warn", "audit")}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _values(namespace: str, given: Mapping[str, Any]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": VALUES, "namespace": namespace, "labels": _labels()},
        "data": {"values.json": json.dumps(given, sort_keys=True)},
    }


def _authority(namespace: str) -> Object:
    with tempfile.TemporaryDirectory() as directory:
        Authority(Path(directory))
        data = {name: base64.b64encode(Path(directory, name).read_bytes()).decode() for name in ("ca.crt", "ca.key")}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": AUTHORITY, "namespace": namespace, "labels": _labels()},
        "type": "Opaque",
        "data": data,
    }


def _labels() -> dict[str, str]:
    return {"app.kubernetes.io/part-of": "kubeedge", "app.kubernetes.io/managed-by": SERVICE}
