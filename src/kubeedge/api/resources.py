"""What an API serves: a row for each resource, in a registry to which rows are added and from which they are taken at run time.

Lives here:      the built-in resources' names; what a row says; the registry of rows.
Lives elsewhere: the rows of the built-in resources (kubeedge.apiserver.builtin).

Discovery, OpenAPI, tables, validation and storage are keyed from the row, so a custom resource needs a row and nothing else. Without a
strategy and a printer it is stored as it comes, listed, watched, and printed with its name and age.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from kubeedge.api.client import Resource
from kubeedge.api.conversions import Version
from kubeedge.api.names import Object
from kubeedge.api.status import FieldError, NoSuchPath
from kubeedge.errors import Misuse
from kubeedge.kit.dataclasses import dataclass

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")

PODS = Resource("", "v1", "pods", "Pod")
SERVICES = Resource("", "v1", "services", "Service")
ENDPOINTS = Resource("", "v1", "endpoints", "Endpoints")
ENDPOINTSLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
NETWORKPOLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
CONFIGMAPS = Resource("", "v1", "configmaps", "ConfigMap")
SECRETS = Resource("", "v1", "secrets", "Secret")
SERVICEACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
EVENTS = Resource("", "v1", "events", "Event")
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
REPLICASETS = Resource("apps", "v1", "replicasets", "ReplicaSet")
DAEMONSETS = Resource("apps", "v1", "daemonsets", "DaemonSet")
PERSISTENTVOLUMECLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
PERSISTENTVOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
CSIDRIVERS = Resource("storage.k8s.io", "v1", "csidrivers", "CSIDriver", namespaced=False)
CSINODES = Resource("storage.k8s.io", "v1", "csinodes", "CSINode", namespaced=False)
VOLUMEATTACHMENTS = Resource("storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", namespaced=False)
CLUSTERTRUSTBUNDLES = Resource(
    "certificates.k8s.io", "v1", "clustertrustbundles", "ClusterTrustBundle", namespaced=False
)
PODCERTIFICATEREQUESTS = Resource("certificates.k8s.io", "v1", "podcertificaterequests", "PodCertificateRequest")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`."""

    name: str
    type: str = "string"
    wide: bool = False  # only with -o wide


@dataclass(frozen=True, eq=False, slots=True)
class Printer:
    """`cells` gives one cell for each column, of an object and of the time in seconds since 1970."""

    columns: Sequence[Column]
    cells: Callable[[Object, float], Sequence[Any]]


def _nothing(*objects: Object) -> list[FieldError]:
    return []


def _leave(obj: Object) -> None:
    """Leave an object as it is: its resource has no defaults."""


@dataclass(frozen=True, eq=False, slots=True)
class Strategy:
    """What a resource's objects have to be, as Kubernetes' registries call it. Functions are pure."""

    #: type of schema_table.py by which types are checked and strategic merge patches merged; "": neither
    schema: str = ""
    #: a client may send strategic merge patches, as for built-in resources and, as in Kubernetes, for no custom one
    strategic: bool = True
    #: fills defaults in, in place; types have been checked
    fill: Callable[[Object], None] = _leave
    #: adds to an object that is made, in place, once
    prepare: Callable[[Object], None] = _leave
    #: rules beyond types
    validate: Callable[[Object], list[FieldError]] = _nothing
    #: of (new, old): what an update may not change
    validate_update: Callable[[Object, Object], list[FieldError]] = _nothing


AS_IT_COMES = Strategy()


@dataclass(frozen=True, slots=True)
class Row:
    """What an API knows of one resource."""

    resource: Resource
    singular: str
    short_names: Sequence[str] = ()
    categories: Sequence[str] = ()
    #: of KNOWN_SUBRESOURCES, those that it has
    subresources: Sequence[str] = ()
    #: fields that a field selector may name, besides metadata.name and metadata.namespace
    fields: Sequence[str] = ()
    #: spec changes count up metadata.generation
    counts_generation: bool = False
    name_rule: str = "subdomain"  # or "label"
    #: a deletion that is done at once answers the object as it was, not a Status: what Kubernetes' registries have as ReturnDeletedObject
    answers_deleted: bool = False
    strategy: Strategy = AS_IT_COMES
    printer: Printer | None = None
    verbs: Sequence[str] = ALL_VERBS
    #: where another version is stored: the row of that has everything that concerns the object and not its form
    conversion: Version | None = None

    @property
    def stored(self) -> Resource:
        """The resource by which the objects are stored, and known in this process."""
        return self.resource if self.conversion is None else self.conversion.stored

    @property
    def has_status(self) -> bool:
        """Is status written through a subresource of its own?"""
        return "status" in self.subresources


_GROUP = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+")
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_KIND = re.compile(r"[A-Za-z]([-A-Za-z0-9]*[A-Za-z0-9])?")
_MAX_NAME = 63


class Resources:
    """The rows of one API. Every tenant's API has one of its own; readers see a change at their next look."""

    def __init__(self, built_in: Iterable[Row] = ()) -> None:
        self._rows = tuple(built_in)

    @property
    def rows(self) -> tuple[Row, ...]:
        """A value: documents that are made of it can be kept for as long as it is equal."""
        return self._rows

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    @property
    def stored(self) -> Iterator[Row]:
        """Those that are not another version of one of them."""
        return (row for row in self._rows if row.conversion is None)

    def register(self, row: Row) -> None:
        """Serve a custom resource from now on. Raises Misuse for a name that cannot be served, or is taken."""
        resource = row.resource
        names = (resource.plural, row.singular, *row.short_names)
        well_formed = (
            _GROUP.fullmatch(resource.group)
            and _KIND.fullmatch(resource.kind)
            and all(_NAME.fullmatch(name) for name in (resource.version, *names, *row.categories))
            and all(len(text) <= _MAX_NAME for text in (resource.version, resource.kind, *names))
            and len(resource.group) <= 253
        )
        if not well_formed:
            raise Misuse(f"{resource} cannot be served: names are DNS labels, the group has a dot")
        for other in self._rows:
            same_group = other.resource.group == resource.group
            another = other.stored == row.stored and other.resource.version != resource.version
            taken = other.resource.plural == resource.plural or other.resource.kind == resource.kind
            if same_group and taken and not another:
                raise Misuse(f"{resource.plural}.{resource.group} is taken by {other.resource}")
        self._rows = (*self._rows, row)

    def remove(self, resource: Resource) -> Row:
        """Serve it no longer; its row. Raises NoSuchPath. What is stored stays, and is there when it is registered again."""
        gone = self.row_of(resource)
        self._rows = tuple(row for row in self._rows if row is not gone)
        return gone

    def row_of(self, resource: Resource) -> Row:
        """The row of a resource. Raises NoSuchPath when it is not served."""
        found = self.by_path(resource.group, resource.version, resource.plural)
        if found is None:
            raise NoSuchPath
        return found

    def by_path(self, group: str, version: str, plural: str) -> Row | None:
        """The row behind /apis/GROUP/VERSION/PLURAL; None: not served."""
        for row in self._rows:
            if (row.resource.plural, row.resource.group, row.resource.version) == (plural, group, version):
                return row
        return None

    def by_kind(self, api_version: str, kind: str) -> Row | None:
        """The row of a manifest's apiVersion and kind; None: not served."""
        for row in self._rows:
            if (row.resource.kind, row.resource.api_version) == (kind, api_version):
                return row
        return None

    def group_versions(self) -> list[tuple[str, str]]:
        """("", "v1") first, then by group; of a group the version that clients are to prefer first."""
        found = {(row.resource.group, row.resource.version) for row in self._rows}
        return sorted(found, key=lambda one: (one[0], version_priority(one[1])))


_VERSION = re.compile(r"v([1-9][0-9]{0,8})(?:(alpha|beta)([1-9][0-9]{0,8}))?")


def version_priority(version: str) -> tuple[int, int, int, str]:
    """Sorts versions as Kubernetes does, the preferred one first: v2, v1, v1beta2, v1beta1, v1alpha2, others by name."""
    found = _VERSION.fullmatch(version)
    if found is None:
        return 3, 0, 0, version
    stability = {None: 0, "beta": 1, "alpha": 2}[found[2]]
    return stability, -int(found[1]), -int(found[3] or 0), version
