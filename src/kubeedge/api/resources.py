"""The resources that the embedded API serves: one row each.

Lives here:      names, short names, verbs, subresources, selectable fields.
Lives elsewhere: what a field may hold (schema.py), defaults (defaults.py), rules (validation.py), table columns
                 (kubeedge.apiserver.tables).

A new kind needs one row here; without more it is stored, listed, watched and printed with NAME and AGE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kubeedge.api.client import Resource

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")

PODS = Resource("", "v1", "pods", "Pod")
SERVICES = Resource("", "v1", "services", "Service")
ENDPOINTS = Resource("", "v1", "endpoints", "Endpoints")
CONFIGMAPS = Resource("", "v1", "configmaps", "ConfigMap")
SECRETS = Resource("", "v1", "secrets", "Secret")
SERVICEACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
EVENTS = Resource("", "v1", "events", "Event")
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
REPLICASETS = Resource("apps", "v1", "replicasets", "ReplicaSet")
DAEMONSETS = Resource("apps", "v1", "daemonsets", "DaemonSet")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")


@dataclass(frozen=True, slots=True)
class Row:
    resource: Resource
    singular: str
    short_names: Sequence[str] = ()
    categories: Sequence[str] = ()
    #: subresource -> kind that travels on it ("" means the resource's own)
    subresources: Sequence[str] = ()
    #: besides metadata.name and metadata.namespace
    fields: Sequence[str] = ()
    #: spec changes count up metadata.generation
    counts_generation: bool = False
    name_rule: str = "subdomain"  # or "label"
    #: a deletion that is done at once answers the object as it was, not a Status: what Kubernetes' registries have as ReturnDeletedObject
    answers_deleted: bool = False

    @property
    def has_status(self) -> bool:
        return "status" in self.subresources


TABLE: tuple[Row, ...] = (
    Row(CONFIGMAPS, "configmap", ("cm",)),
    Row(ENDPOINTS, "endpoints", ("ep",)),
    Row(
        EVENTS,
        "event",
        ("ev",),
        fields=(
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ),
    ),
    Row(
        NAMESPACES,
        "namespace",
        ("ns",),
        subresources=("status", "finalize"),
        fields=("status.phase",),
        name_rule="label",
    ),
    Row(NODES, "node", ("no",), subresources=("status",), fields=("spec.unschedulable",)),
    Row(
        PODS,
        "pod",
        ("po",),
        ("all",),
        ("status", "log", "binding", "eviction", "exec", "attach", "portforward"),
        (
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ),
        answers_deleted=True,
    ),
    Row(SECRETS, "secret", fields=("type",)),
    Row(SERVICEACCOUNTS, "serviceaccount", ("sa",), answers_deleted=True),
    Row(
        SERVICES,
        "service",
        ("svc",),
        ("all",),
        ("status",),
        ("spec.clusterIP", "spec.type"),
        name_rule="label",
        answers_deleted=True,
    ),
    Row(DAEMONSETS, "daemonset", ("ds",), ("all",), ("status",), counts_generation=True),
    Row(DEPLOYMENTS, "deployment", ("deploy",), ("all",), ("status", "scale"), counts_generation=True),
    Row(
        REPLICASETS,
        "replicaset",
        ("rs",),
        ("all",),
        ("status", "scale"),
        ("status.replicas",),
        counts_generation=True,
    ),
    Row(LEASES, "lease"),
)

_BY_PATH = {(r.resource.group, r.resource.version, r.resource.plural): r for r in TABLE}
_BY_KIND = {(r.resource.api_version, r.resource.kind): r for r in TABLE}


def by_path(group: str, version: str, plural: str) -> Row | None:
    return _BY_PATH.get((group, version, plural))


def by_kind(api_version: str, kind: str) -> Row | None:
    return _BY_KIND.get((api_version, kind))


def row_of(resource: Resource) -> Row:
    """The table's row, or a plain one for a resource that is not in it (custom resources)."""
    found = by_path(resource.group, resource.version, resource.plural)
    return found if found is not None else Row(resource, resource.kind.lower())


def group_versions() -> list[tuple[str, str]]:
    """("", "v1") first, then by group."""
    return sorted({(r.resource.group, r.resource.version) for r in TABLE})
