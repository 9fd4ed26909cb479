"""What the admission plugin ServiceAccount makes of a new pod: its account, and the volume by which its containers reach the API. Pure."""

from __future__ import annotations

from typing import Any

from kubeedge.api import meta, service_accounts
from kubeedge.api.meta import Randbytes
from kubeedge.api.names import Object
from kubeedge.api.resources import PODS
from kubeedge.api.status import Forbidden

ROOT = "kube-root-ca.crt"  # ConfigMap of each namespace
_MIRROR = "kubernetes.io/config.mirror"  # annotation: the pod comes from a file on its node
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # of generated names, as Kubernetes has them


def named(pod: Object) -> Object:
    """The pod with the name of its account, "default" if it names none."""
    spec = dict(pod.get("spec") or {})
    spec["serviceAccountName"] = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    spec["serviceAccount"] = spec["serviceAccountName"]
    return {**pod, "spec": spec}


def has_none(pod: Any) -> bool:
    """It is not looked at: no pod at all, or one that its node made."""
    if not isinstance(pod, dict) or not isinstance(pod.get("spec"), dict) or not isinstance(pod.get("metadata"), dict):
        return True
    annotations = pod["metadata"].get("annotations")
    return isinstance(annotations, dict) and _MIRROR in annotations


def admitted(pod: Object, account: Object, randbytes: Randbytes) -> Object:
    """What of the account goes into the pod, which is a named one: pull secrets, and the volume unless one of the two says no.

    A container that mounts something else at that path keeps it."""
    spec = dict(pod["spec"])
    if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = account["imagePullSecrets"]
    automount = spec.get("automountServiceAccountToken")
    if automount is None:
        automount = account.get("automountServiceAccountToken")
    if automount is not False:
        _mount(spec, randbytes)
    return {**pod, "spec": spec}


def missing(pod: Object, name: str) -> Forbidden:
    """The 403 for an account that does not exist."""
    namespace = meta.namespace_of(pod)
    why = f"error looking up service account {namespace}/{name}: serviceaccount {name!r} not found"
    return Forbidden.of(PODS, meta.name_of(pod), why)


def _mount(spec: dict[str, Any], randbytes: Randbytes) -> None:
    containers = [c for kind in ("initContainers", "containers") for c in _objects(spec.get(kind))]
    if all(_has_path(container) for container in containers):
        return
    name = "kube-api-access-" + "".join(_LETTERS[byte % len(_LETTERS)] for byte in randbytes(5))
    spec["volumes"] = [*(spec.get("volumes") or ()), {"name": name, "projected": _sources()}]
    mount = {"name": name, "readOnly": True, "mountPath": service_accounts.ACCOUNT_PATH}
    for kind in ("initContainers", "containers"):
        if kind in spec:
            spec[kind] = [
                container
                if not isinstance(container, dict) or _has_path(container)
                else {**container, "volumeMounts": [*(container.get("volumeMounts") or ()), mount]}
                for container in spec[kind] or ()
            ]


def _sources() -> Object:
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    return {
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": service_accounts.POD_SECONDS, "path": "token"}},
            {"configMap": {"name": ROOT, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [namespace]}},
        ],
    }


def _objects(value: Any) -> list[Object]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _has_path(container: Object) -> bool:
    mounts = _objects(container.get("volumeMounts"))
    return any(str(mount.get("mountPath", "")).rstrip("/") == service_accounts.ACCOUNT_PATH for mount in mounts)
