"""Mirror pods: what the API shows of the static pods of nodes. A node runs them whether or not there is a mirror; who deletes one sees it come back.

They are made by the identity of their node, in the form that the admission plugin NodeRestriction asks for, and never sent to a node.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from kubeedge.api import meta
from kubeedge.api.names import NodeName, Object
from kubeedge.api.resources import PODS
from kubeedge.errors import Conflict, Invalid, NotFound, Refused
from kubeedge_cloud.controllers.objects import is_deleting, uid_of
from kubeedge_cloud.edgecontroller.state import EdgeState, is_mirror, mirrored

log = logging.getLogger("kubeedge.edgecontroller")

MAX_PODS = 64  # of one node
_AGAIN = 30.0  # seconds until one that was refused is tried again: its namespace may be there by then


class MirrorPods:
    """Makes and removes them."""

    def __init__(self, state: EdgeState) -> None:
        self._state = state

    async def of(self, node: NodeName, namespace: str, name: str, uid: str, wanted: Object) -> Object | float:
        """The mirror of the static pod with that uid, or seconds until it is to be tried again. Raises Invalid for what no node may show."""
        found = self._state.pods.get(namespace, name)
        if found is not None and not self._is_of(found, node):
            raise Invalid(f"static pod {namespace}/{name} has the name of a pod of the API")
        client = self._state.client_of(node)
        try:
            if found is not None and (is_deleting(found) or mirrored(found) != uid):
                await client.delete(PODS, namespace, name, grace_period=0, uid=uid_of(found))
                found = None
            if found is None:
                if self._state.mirrors_of(node) >= MAX_PODS:
                    raise Invalid(f"a node may show {MAX_PODS} static pods")
                node_object = self._state.nodes.get("", node)
                if node_object is None:
                    return _AGAIN
                found = await client.create(
                    PODS, namespace, mirror_pod(wanted, namespace, name, node, uid_of(node_object), uid)
                )
        except (Conflict, NotFound, Refused) as exc:
            log.info("mirror of static pod %s/%s of node %s: %s", namespace, name, node, exc)
            return _AGAIN
        return found

    async def remove(self, node: NodeName, namespace: str, name: str) -> None:
        """The node has no such static pod any more."""
        found = self._state.pods.get(namespace, name)
        if found is not None and self._is_of(found, node):
            try:
                client = self._state.client_of(node)
                await client.delete(PODS, namespace, name, grace_period=0, uid=uid_of(found))
            except (Conflict, NotFound):
                return

    @staticmethod
    def _is_of(pod: Object, node: NodeName) -> bool:
        return is_mirror(pod) and (pod.get("spec") or {}).get("nodeName") == node


def mirror_pod(wanted: Object, namespace: str, name: str, node: NodeName, node_uid: str, uid: str) -> Object:
    """The object for the API, of that name whatever the report says. Raises Invalid for what refers to objects of the API: a node reads none that no user has given it."""
    spec, given = wanted.get("spec"), meta.metadata(wanted)
    if not isinstance(spec, dict):
        raise Invalid("a static pod without a spec")
    if not name.endswith(f"-{node}"):
        raise Invalid(f"static pod {name} has not the name of its node behind its own")
    if found := next(_references(spec), ""):
        raise Invalid(f"a static pod cannot refer to an object of the API: {found}")
    annotations = given.get("annotations")
    owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node_uid, "controller": True}
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            **({"labels": labels} if (labels := meta.labels_of(wanted)) else {}),
            "annotations": {
                **(annotations if isinstance(annotations, dict) else {}),
                "kubernetes.io/config.source": "file",
                "kubernetes.io/config.hash": uid,
                "kubernetes.io/config.mirror": uid,
            },
            "ownerReferences": [owner],
        },
        "spec": {**spec, "nodeName": node},
    }


def _references(value: Any) -> Iterator[str]:
    """Wherever they are: what is looked for is no name of anything else in a PodSpec."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key in _REFERENCES and inner:
                yield str(key)
            elif key not in ("labels", "annotations", "nodeSelector", "limits", "requests"):
                yield from _references(inner)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


_REFERENCES = frozenset(
    "configMap secret persistentVolumeClaim ephemeral csi serviceAccountName serviceAccount serviceAccountToken imagePullSecrets "
    "configMapRef secretRef configMapKeyRef secretKeyRef fileKeyRef resourceClaims secretFile clusterTrustBundle podCertificate".split()
)
