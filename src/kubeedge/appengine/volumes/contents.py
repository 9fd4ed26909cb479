"""The files of configMap, secret, downwardAPI and projected volumes. Pure.

Raises Missing for what is not there (yet) and not optional, Invalid for what cannot be understood.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubeedge.api import pod_certificates, service_accounts, trust_bundles
from kubeedge.appengine import node_api, resolve
from kubeedge.appengine.resolve import Missing, items_of, object_of, safe_path
from kubeedge.appengine.volumes.base import VolumeContext
from kubeedge.errors import Invalid

#: path below the volume -> (content, mode or None for the volume's default)
Files = dict[str, tuple[bytes, int | None]]
MAX_CONTENT = (
    32 * 1024 * 1024
)  # bytes of one volume; one object of 1 MB can be named a thousand times, and Secrets lie in memory


def _grown(size: int, content: bytes) -> int:
    """The bytes of a volume with this file. Raises Invalid for too many."""
    if size + len(content) > MAX_CONTENT:
        raise Invalid(f"the files of the volume have more than {MAX_CONTENT} bytes", path="spec.volumes")
    return size + len(content)


def config_map(context: VolumeContext, source: Mapping[str, Any]) -> Files:
    """The files of a configMap volume or projection, all keys or those of `items`."""
    return _keys(context, "configmaps", str(source.get("name", "")), source)


def secret(context: VolumeContext, source: Mapping[str, Any]) -> Files:
    """Of a volume: a projection names its Secret "name", as it does a ConfigMap."""
    return _keys(context, "secrets", str(source.get("secretName", "")), source)


def downward_api(context: VolumeContext, source: Mapping[str, Any]) -> Files:
    """The files of a downwardAPI volume or projection: one for each item, with its fieldRef or resourceFieldRef."""
    pod, files, size = context.pod, Files(), 0
    for item in items_of(source, "items"):
        path = safe_path(str(item.get("path")))
        if "fieldRef" in item:
            field = str(object_of(item, "fieldRef").get("fieldPath", ""))
            text = resolve.field(pod, field, pod_ip=context.pod_ip, host_ip=context.host_ip, node=context.node)
        else:
            ref = object_of(item, "resourceFieldRef")
            text = resolve.resource_field(pod, ref, pod.containers[0], context.allocatable)
        content = text.encode()
        size = _grown(size, content)
        files[path] = (content, _mode(item))
    return files


def projected(context: VolumeContext, source: Mapping[str, Any]) -> Files:
    """Several of them in one directory."""
    files: Files = {}
    size = 0
    for index, part in enumerate(items_of(source, "sources")):
        made = _source(context, part, index)
        for content, _ in made.values():
            size = _grown(size, content)
        files |= made
    return files


def _source(context: VolumeContext, part: Mapping[str, Any], index: int) -> Files:
    if "configMap" in part:
        inner = object_of(part, "configMap")
        found = config_map(context, inner)
        return _with_node(context, found) if inner.get("name") == node_api.ROOT else found
    if "secret" in part:
        inner = object_of(part, "secret")
        return _keys(context, "secrets", str(inner.get("name", "")), inner)
    if "downwardAPI" in part:
        return downward_api(context, object_of(part, "downwardAPI"))
    if "serviceAccountToken" in part:
        return token(context, object_of(part, "serviceAccountToken"))
    if "clusterTrustBundle" in part:
        return trust_bundle(context, object_of(part, "clusterTrustBundle"))
    if "podCertificate" in part:
        return certificate(context, object_of(part, "podCertificate"), f"{context.spec.name}/{index}")
    raise Invalid(f"projected source {', '.join(part)} is not supported", path="spec.volumes")


def trust_bundle(context: VolumeContext, source: Mapping[str, Any]) -> Files:
    """One file with the certificates of a ClusterTrustBundle, or of all of a signer that are selected; an empty one where none must be."""
    wanted = trust_bundles.wanted_of(source)
    row = context.find(trust_bundles.RESOURCE, "", wanted.row)
    if row is None and not source.get("optional"):
        what = (
            f"named {wanted.name}"
            if wanted.name
            else f"of signer {wanted.signer} with labels {wanted.selector or None}"
        )
        raise Missing(f"there is no ClusterTrustBundle {what:.400}")
    return {safe_path(str(source.get("path"))): (str((row or {}).get("trustBundle") or "").encode(), None)}


def token(context: VolumeContext, source: Mapping[str, Any]) -> Files:
    """One file with the token that the cloud has issued for this pod. It stays when it expires: the node has no newer one."""
    pod = context.pod
    row = context.find(service_accounts.RESOURCE, pod.namespace, pod.name)
    kept = service_accounts.decode_kept(row) if row is not None else None
    found = kept.of(service_accounts.wanted_of(source)) if kept is not None and kept.pod == pod.uid else None
    if found is None:
        raise Missing(
            f"the token of service account {pod.namespace}/{pod.service_account or 'default'} has not come yet"
        )
    return {safe_path(str(source.get("path"))): (found.token.encode(), None)}


def certificate(context: VolumeContext, source: Mapping[str, Any], name: str) -> Files:
    """The files of a podCertificate source, VOLUME/INDEX: key and certificates, which stay when they end: the node has no newer ones."""
    from kubeedge.appengine.podcertificates import core  # few pods have any

    pod = context.pod
    if source.get("keyType") not in pod_certificates.KEY_TYPES or not source.get("signerName"):
        raise Invalid(
            "a podCertificate source has a signerName and a keyType that Kubernetes knows", path="spec.volumes"
        )
    row = context.find(pod_certificates.RESOURCE, pod.namespace, pod.name)
    kept = core.read(row, pod.uid).get(name) if row is not None else None
    if kept is None or not kept.chain:
        raise Missing(core.missing(str(source["signerName"]), kept))
    mode = 0o600 if pod.fs_group is not None else None  # the kubelet's
    return {safe_path(path): (content, mode) for path, content in core.files(source, kept)}


def _with_node(context: VolumeContext, files: Files) -> Files:
    """What a client trusts of the API is also this node's own certificate, where that API is what it is told of."""
    if context.api is None:
        return files
    return {
        path: (context.api.trusted(content) if path.rpartition("/")[2] == node_api.CERTIFICATE else content, mode)
        for path, (content, mode) in files.items()
    }


def _keys(context: VolumeContext, resource: str, name: str, source: Mapping[str, Any]) -> Files:
    """The keys of a ConfigMap or Secret, or those of them that `items` chooses; an empty list chooses nothing, and so is as good as none."""
    optional = bool(source.get("optional"))
    data = resolve.data(context.pod, resource, name, optional, context.find)
    if not source.get("items"):
        return {safe_path(key): (value, None) for key, value in data.items()}
    files, size = Files(), 0
    for item in items_of(source, "items"):
        key, path = str(item.get("key")), safe_path(str(item.get("path")))
        if key in data:
            size = _grown(size, data[key])
            files[path] = (data[key], _mode(item))
        elif not optional:
            raise Missing(f"{resource[:-1]} {context.pod.namespace}/{name} has no key {key}")
    return files


def _mode(item: Mapping[str, Any]) -> int | None:
    mode = item.get("mode")
    if mode is not None and (isinstance(mode, bool) or not isinstance(mode, int) or not 0 <= mode <= 0o777):
        raise Invalid(f"{mode!r:.60} is not a file mode", path="mode")
    return mode
