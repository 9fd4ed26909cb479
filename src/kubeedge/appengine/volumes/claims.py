"""persistentVolumeClaim and ephemeral: the PersistentVolume behind a claim, as a volume of the pod. Pure.

The cloud sends claims and what they are bound to with the pods that mount them, so that a pod starts without the cloud.
"""

from __future__ import annotations

from typing import Any

from kubeedge.api import meta
from kubeedge.api.names import Object
from kubeedge.api.pod import VolumeSpec
from kubeedge.api.quantities import bytes_of, is_quantity
from kubeedge.api.resources import NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from kubeedge.api.selectors import matches_node_term, node_term
from kubeedge.appengine.runtime.base import StartError
from kubeedge.appengine.volumes.base import NotMounted, VolumeContext
from kubeedge.kit.dataclasses import replace

KINDS = ("persistentVolumeClaim", "ephemeral")
_VOLUMES = ("hostPath", "local", "nfs", "csi")  # what a PersistentVolume may be on this node


def resolved(context: VolumeContext) -> VolumeContext:
    """The same volume as its PersistentVolume describes it. Raises NotMounted while there is none that a pod of this node can mount."""
    name = context.spec.claim_of(context.pod.name)
    claim = context.find(PERSISTENTVOLUMECLAIMS.plural, context.pod.namespace, name)
    if claim is None:
        raise NotMounted(f'persistentvolumeclaim "{name}" not found')
    if context.spec.kind == "ephemeral" and not _is_controlled_by(claim, context.pod.uid):
        raise NotMounted(f'persistentvolumeclaim "{name}" was not created for this pod')
    spec, status = _of(claim, "spec"), _of(claim, "status")
    volume_name = str(spec.get("volumeName") or "")
    if status.get("phase") == "Lost":
        raise NotMounted(f'persistentvolumeclaim "{name}" has lost its volume')
    if status.get("phase") != "Bound" or not volume_name:
        raise NotMounted(f'persistentvolumeclaim "{name}" is not bound to a volume yet')
    volume = context.find(PERSISTENTVOLUMES.plural, "", volume_name)
    if volume is None:
        raise NotMounted(f'persistentvolume "{volume_name}" of claim "{name}" has not come yet')
    return _as_volume_of_pod(context, claim, name, volume, volume_name)


def _as_volume_of_pod(
    context: VolumeContext, claim: Object, claim_name: str, volume: Object, volume_name: str
) -> VolumeContext:
    spec = _of(volume, "spec")
    if _of(spec, "claimRef").get("uid") != meta.metadata(claim).get("uid"):
        raise NotMounted(f'persistentvolume "{volume_name}" is not bound to claim "{claim_name}"')
    if spec.get("volumeMode") == "Block":
        raise StartError(
            "CreateContainerConfigError",
            f'volume {context.spec.name} has volumeMode "Block": it is mounted by no container here',
        )
    terms = _of(_of(spec, "nodeAffinity"), "required").get("nodeSelectorTerms")
    if isinstance(terms, list) and not _matches_any(terms, context):
        raise NotMounted(f'persistentvolume "{volume_name}" is not on this node, by its node affinity')
    kind = next((kind for kind in _VOLUMES if isinstance(spec.get(kind), dict)), "")
    if not kind:
        has = ", ".join(sorted(key for key, value in spec.items() if isinstance(value, dict) and key not in _OTHERS))
        raise StartError("CreateContainerConfigError", f"persistent volumes of type {has:.60} are not supported here")
    source = dict(spec[kind])
    if context.spec.read_only:
        source["readOnly"] = True
    return replace(
        context,
        spec=VolumeSpec(context.spec.name, kind, source),
        persistent=volume_name,
        mount_options=_texts(spec.get("mountOptions")),
        access_modes=_texts(spec.get("accessModes")),
        grow_to=_growth(spec, _of(claim, "status")),
    )


_OTHERS = ("claimRef", "capacity", "nodeAffinity")


def _matches_any(terms: list[Any], context: VolumeContext) -> bool:
    node = context.find(NODES.plural, "", context.node) or {"metadata": {"name": context.node}}
    return any(isinstance(term, dict) and matches_node_term(node_term(term), node) for term in terms)


def _is_controlled_by(claim: Object, uid: str) -> bool:
    owners = meta.metadata(claim).get("ownerReferences")
    return isinstance(owners, list) and any(o.get("uid") == uid and o.get("controller") for o in owners)


def _growth(volume: Object, status: Object) -> str:
    """The capacity of a volume that is larger than its claim has noticed; "" for others."""
    has: Any = _of(volume, "capacity").get("storage")
    had: Any = _of(status, "capacity").get("storage")
    if not is_quantity(has) or not is_quantity(had) or bytes_of(has) <= bytes_of(had):
        return ""
    return str(has)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(one) for one in value) if isinstance(value, list) else ()


def _of(obj: Object, key: str) -> Object:
    found = obj.get(key)
    return found if isinstance(found, dict) else {}
