"""What the server publishes about itself: versions, groups, resources; and the API documents that kubectl asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kubeedge.api.names import Object
from kubeedge.api.resources import Resources, Row, version_priority
from kubeedge.kit.dataclasses import dataclass

#: subresource -> (group, version, kind, verbs); group "" and kind "" mean the resource's own
_SUBRESOURCES: dict[str, tuple[str, str, str, Sequence[str]]] = {
    "status": ("", "", "", ("get", "patch", "update")),
    "finalize": ("", "", "", ("update",)),
    "ephemeralcontainers": ("", "", "", ("get", "patch", "update")),
    "resize": ("", "", "", ("get", "patch", "update")),
    "scale": ("autoscaling", "v1", "Scale", ("get", "patch", "update")),
    "log": ("", "", "", ("get",)),
    "binding": ("", "v1", "Binding", ("create",)),
    "eviction": ("policy", "v1", "Eviction", ("create",)),
    "methods": ("", "", "DeviceMethodList", ("create", "get")),
    "token": ("authentication.k8s.io", "v1", "TokenRequest", ("create",)),
}
#: of subresources that are asked for by their group: kubectl before 1.22 evicts pods only where there is a group "policy", else deletes them,
#: and waits for deletions that were a dry run
_GROUPS_OF_SUBRESOURCES = {"eviction": ("policy", "v1")}


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """Which Kubernetes the API resembles, and our own version behind the plus sign."""

    git_version: str = "v1.30.0+kubeedge"
    major: str = "1"
    minor: str = "30"
    platform: str = "linux/amd64"


def version(info: VersionInfo) -> Object:
    """The answer to GET /version."""
    return {
        "major": info.major,
        "minor": info.minor,
        "gitVersion": info.git_version,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": info.platform,
    }


def api_versions() -> Object:
    """The answer to GET /api: the versions of the core group."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def _group_versions(served: Resources) -> list[tuple[str, str]]:
    """Those that have resources, and those that are listed without any."""
    empty = {group for row in served for name, group in _GROUPS_OF_SUBRESOURCES.items() if name in row.subresources}
    return sorted({*served.group_versions(), *empty}, key=lambda one: (one[0], version_priority(one[1])))


def _group(served: Resources, name: str) -> Object:
    versions = [{"groupVersion": f"{g}/{v}", "version": v} for g, v in _group_versions(served) if g == name]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def group_names(served: Resources) -> list[str]:
    """The groups that are served, without the core group."""
    return sorted({group for group, _ in _group_versions(served) if group})


def api_group(served: Resources, name: str) -> Object | None:
    """The APIGroup of /apis/GROUP; None when that group is not served."""
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(served, name)} if name in group_names(served) else None


def api_group_list(served: Resources) -> Object:
    """The answer to GET /apis: the groups of the resources and subresources that are served."""
    return {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [_group(served, name) for name in group_names(served)],
    }


def _rows(served: Resources, group: str, version: str) -> Iterator[Row]:
    return (row for row in served if (row.resource.group, row.resource.version) == (group, version))


def resource_list(served: Resources, group: str, version: str) -> Object | None:
    """/api/v1 and /apis/GROUP/VERSION; None: not served."""
    found: list[Object] = []
    for row in _rows(served, group, version):
        resource = row.resource
        entry: Object = {
            "name": resource.plural,
            "singularName": row.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": list(row.verbs),
        }
        if row.short_names:
            entry["shortNames"] = list(row.short_names)
        if row.categories:
            entry["categories"] = list(row.categories)
        found.append(entry)
        for name in row.subresources:
            if name in _SUBRESOURCES:
                sub_group, sub_version, kind, verbs = _SUBRESOURCES[name]
                sub: Object = {
                    "name": f"{resource.plural}/{name}",
                    "singularName": "",
                    "namespaced": resource.namespaced,
                    "kind": kind or resource.kind,
                    "verbs": list(verbs),
                }
                if sub_group:
                    sub["group"], sub["version"] = sub_group, sub_version
                found.append(sub)
    if (group, version) not in _group_versions(served):
        return None
    name = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": found}


def aggregated(served: Resources, core: bool, api: str) -> Object:
    """APIGroupDiscoveryList: of the core group for /api, of all others for /apis. `api` is v2 or v2beta1."""
    names = [""] if core else group_names(served)
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{api}",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": name} if name else {},
                "versions": [_discovered(served, name, v) for g, v in _group_versions(served) if g == name],
            }
            for name in names
        ],
    }


def _discovered(served: Resources, group: str, version: str) -> Object:
    resources: list[Object] = []
    for row in _rows(served, group, version):
        resource = row.resource
        own = {"group": group, "version": version, "kind": resource.kind}
        entry: Object = {
            "resource": resource.plural,
            "responseKind": own,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "singularResource": row.singular,
            "verbs": list(row.verbs),
        }
        if row.short_names:
            entry["shortNames"] = list(row.short_names)
        if row.categories:
            entry["categories"] = list(row.categories)
        subresources: list[Object] = []
        for name in row.subresources:
            if name in _SUBRESOURCES:
                sub_group, sub_version, kind, verbs = _SUBRESOURCES[name]
                response = {"group": sub_group, "version": sub_version or version, "kind": kind} if kind else own
                subresources.append({"subresource": name, "responseKind": response, "verbs": list(verbs)})
        if subresources:
            entry["subresources"] = subresources
        resources.append(entry)
    return {"version": version, "resources": resources, "freshness": "Current"}
