"""What a node needs of the claims that its pods mount: PersistentVolumeClaims, the PersistentVolumes behind them, and of volumes of CSI drivers
the CSIDriver, the VolumeAttachment and Secrets. Pure.

Lives elsewhere: how they are asked for (referenced.py, polled.py), what a node does with them (kubeedge.appengine.volumes).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from kubeedge.api import meta
from kubeedge.api.names import Object
from kubeedge.api.resources import CSIDRIVERS, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, SECRETS, VOLUMEATTACHMENTS
from kubeedge.api.volumes import attachment_name
from kubeedge_cloud.edgecontroller.node_objects import canonical, data_object, key

#: (plural, namespace, name)
Reference = tuple[str, str, str]
Find = Callable[[str, str, str], Object | None]
CLAIMS, VOLUMES = PERSISTENTVOLUMECLAIMS.plural, PERSISTENTVOLUMES.plural
DRIVERS, ATTACHMENTS = CSIDRIVERS.plural, VOLUMEATTACHMENTS.plural
_SECRETS = ("nodeStageSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef")  # of a PersistentVolume of type csi
_CLAIM = ("accessModes", "resources", "storageClassName", "volumeMode", "volumeName")


def of_pod(pod: Object) -> Iterator[Reference]:
    """The claims that a pod mounts, and the drivers of its inline volumes. A generic ephemeral volume has a claim of its own, whose name is made of
    the two names."""
    namespace, name = meta.namespace_of(pod), meta.name_of(pod)
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            yield CLAIMS, namespace, str((volume["persistentVolumeClaim"] or {}).get("claimName") or "")
        elif "ephemeral" in volume:
            yield CLAIMS, namespace, f"{name}-{volume.get('name')}"
        elif source := volume.get("csi"):
            yield DRIVERS, "", str(source.get("driver") or "")
            if reference := source.get("nodePublishSecretRef"):
                yield SECRETS.plural, namespace, str(reference.get("name") or "")


def behind(references: Iterable[Reference], find: Find, node: str) -> set[Reference]:
    """With these claims, as far as they are known: the volumes that they are bound to, and what these name."""
    found = set(references)
    for plural, namespace, name in tuple(found):
        if plural == CLAIMS and (volume := _volume_of(find(CLAIMS, namespace, name))):
            found.add((VOLUMES, "", volume))
            obj = find(VOLUMES, "", volume) or {}
            found.update(_secrets_of(obj))
            found.update(_driver_of(obj, find, node))
    return found


def _driver_of(volume: Object, find: Find, node: str) -> Iterator[Reference]:
    source = (volume.get("spec") or {}).get("csi") or {}
    if driver := str(source.get("driver") or ""):
        yield DRIVERS, "", driver
        if ((find(DRIVERS, "", driver) or {}).get("spec") or {}).get("attachRequired") is not False:
            yield ATTACHMENTS, "", attachment_name(str(source.get("volumeHandle") or ""), driver, node)


def _volume_of(claim: Object | None) -> str:
    return str(((claim or {}).get("spec") or {}).get("volumeName") or "")


def _secrets_of(volume: Object) -> Iterator[Reference]:
    source = (volume.get("spec") or {}).get("csi") or {}
    for field in _SECRETS:
        if reference := source.get(field):
            yield SECRETS.plural, str(reference.get("namespace") or ""), str(reference.get("name") or "")


def rows(objects: Mapping[Reference, Object], of_volumes: Collection[Reference]) -> dict[str, bytes]:
    """Of the objects that the node's pods refer to, those of volumes: key below the node's desired prefix -> value."""
    wanted = {}
    for (plural, namespace, name), obj in objects.items():
        if plural == CLAIMS:
            wanted[key(plural, namespace, name)] = claim(obj)
        elif plural in (DRIVERS, ATTACHMENTS):
            parts = ("spec", "status") if plural == ATTACHMENTS else ("spec",)
            row = {"metadata": {"name": name}, **_some(obj, parts)}
            wanted[key(plural, namespace, name)] = canonical(row)
        elif plural == VOLUMES:
            wanted[key(plural, namespace, name)] = volume(obj)
        elif plural == SECRETS.plural and (plural, namespace, name) in of_volumes:
            wanted[key(plural, namespace, name)] = data_object(obj)
    return wanted


def claim(obj: Object) -> bytes:
    """A PersistentVolumeClaim as a node needs it."""
    inner = {k: v for k in ("name", "namespace", "uid", "ownerReferences") if (v := obj["metadata"].get(k))}
    status = {k: v for k in ("phase", "capacity") if (v := (obj.get("status") or {}).get(k))}
    return canonical({"metadata": inner, "spec": _some(obj.get("spec") or {}, _CLAIM), "status": status})


def volume(obj: Object) -> bytes:
    """A PersistentVolume as a node needs it: what it is, and whose."""
    spec = {k: v for k, v in (obj.get("spec") or {}).items() if k != "claimRef"}
    if owner := (obj.get("spec") or {}).get("claimRef"):
        spec["claimRef"] = _some(owner, ("namespace", "name", "uid"))
    return canonical({"metadata": {"name": meta.name_of(obj)}, "spec": spec})


def _some(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if values.get(name) is not None}


def is_attached(obj: Object) -> bool:
    """A VolumeAttachment says that the volume is there."""
    return bool((obj.get("status") or {}).get("attached"))


def is_settled(obj: Object) -> bool:
    """A pod can start with this PersistentVolumeClaim or PersistentVolume, and nothing is under way with it."""
    status = obj.get("status") or {}
    return status.get("phase") == "Bound" and not status.get("conditions")
