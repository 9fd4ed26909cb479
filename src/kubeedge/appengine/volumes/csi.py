"""csi: volumes of drivers, inline or behind a claim. The calls are kubeedge.appengine.csi's."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from kubeedge.api import quantities
from kubeedge.api.names import Object
from kubeedge.api.resources import CSIDRIVERS, SECRETS, VOLUMEATTACHMENTS
from kubeedge.api.volumes import attachment_name
from kubeedge.appengine.csi import core
from kubeedge.appengine.csi.core import CsiError, CsiVolumes, CsiVolumeSpec
from kubeedge.appengine.volumes import ownership
from kubeedge.appengine.volumes.base import NotMounted, VolumeContext
from kubeedge.kit.dataclasses import replace

_POD = "csi.storage.k8s.io/"


class CsiVolume:
    """What a driver publishes for one pod."""

    read_only = False

    def __init__(self, context: VolumeContext) -> None:
        self._driver = str(context.spec.source.get("driver") or "")
        if context.csi is None:
            raise NotMounted(f"CSI driver {self._driver} is not registered on this node")
        self._context = context
        self._csi: CsiVolumes = context.csi
        self._kind = context.find(CSIDRIVERS.plural, "", self._driver) or {}
        self.path = self._csi.target(self._spec())

    def _spec(self) -> CsiVolumeSpec:
        context, source = self._context, self._context.spec.source
        inline = not context.persistent
        name = context.persistent or context.spec.name
        handle = core.ephemeral_handle(context.pod.uid, name) if inline else str(source.get("volumeHandle") or "")
        attributes = core.texts(source.get("volumeAttributes"))
        if (self._kind.get("spec") or {}).get("podInfoOnMount"):
            attributes |= {
                f"{_POD}pod.name": context.pod.name,
                f"{_POD}pod.namespace": context.pod.namespace,
                f"{_POD}pod.uid": context.pod.uid,
                f"{_POD}serviceAccount.name": context.pod.service_account,
                f"{_POD}ephemeral": "true" if inline else "false",
            }
        return CsiVolumeSpec(
            driver=self._driver,
            handle=handle,
            name=name,
            pod_uid=context.pod.uid,
            ephemeral=inline,
            read_only=context.spec.read_only,
            access_modes=context.access_modes,
            fs_type=str(source.get("fsType") or ""),
            mount_flags=context.mount_options,
            attributes=attributes,
            group=context.pod.fs_group,
            grow_to=quantities.bytes_of(context.grow_to) if context.grow_to else 0,
        )

    async def attach(self) -> str:
        """Stages and publishes it, and lets it grow. Raises NotMounted."""
        spec, source = self._spec(), self._context.spec.source
        if not spec.driver or not spec.handle:
            raise NotMounted("a CSI volume without a driver, or without a handle")
        modes = (self._kind.get("spec") or {}).get("volumeLifecycleModes") or ("Persistent",)
        if (wanted := "Ephemeral" if spec.ephemeral else "Persistent") not in modes:
            raise NotMounted(f"CSI driver {spec.driver} has no volumes of mode {wanted}, by its CSIDriver")
        whole = replace(
            spec,
            publish_context=self._publish_context(spec),
            stage_secrets=self._secret(source.get("nodeStageSecretRef")),
            publish_secrets=self._secret(source.get("nodePublishSecretRef")),
        )
        try:
            await self._csi.publish(whole)
        except CsiError as exc:
            raise NotMounted(str(exc)) from exc
        return self._context.grow_to if core.EXPAND in self._csi.capabilities(self._driver) else ""

    def _publish_context(self, spec: CsiVolumeSpec) -> dict[str, str]:
        """What the controller's part of the driver has said when it attached the volume. Raises NotMounted while it has not."""
        if spec.ephemeral or (self._kind.get("spec") or {}).get("attachRequired") is False:
            return {}
        name = attachment_name(spec.handle, spec.driver, self._context.node)
        status = (self._context.find(VOLUMEATTACHMENTS.plural, "", name) or {}).get("status") or {}
        if not status.get("attached"):
            problem = (status.get("attachError") or {}).get("message") or "it waits for the cluster"
            raise NotMounted(f"volume {spec.name} is not attached to this node yet: {problem}")
        return core.texts(status.get("attachmentMetadata"))

    def _secret(self, reference: Object | None) -> dict[str, str]:
        if not isinstance(reference, dict) or not reference.get("name"):
            return {}
        namespace = str(reference.get("namespace") or self._context.pod.namespace)
        found = self._context.find(SECRETS.plural, namespace, str(reference["name"]))
        if found is None:
            raise NotMounted(f'secret "{namespace}/{reference["name"]}" of a CSI volume not found')
        try:
            return {key: base64.b64decode(value).decode() for key, value in (found.get("data") or {}).items()}
        except (ValueError, TypeError, binascii.Error) as exc:
            raise NotMounted(f'secret "{namespace}/{reference["name"]}" is no text') from exc

    async def detach(self) -> None:
        """Nothing: what was published is taken back by its records, whether or not the volume is known by then (VolumeManager.detach)."""

    def mount(self) -> Path:
        """Where it was published; its files belong to the pod's fsGroup, where its driver leaves that to others. Raises NotMounted."""
        if not self.path.exists():
            raise NotMounted(f"CSI driver {self._driver} has not made {self.path}")
        context = self._context
        if context.pod.fs_group is not None and not context.spec.read_only and self._gives_ownership():
            ownership.give(self.path, context.pod.fs_group, on_mismatch_only=context.pod.fs_group_on_mismatch)
        return self.path

    def _gives_ownership(self) -> bool:
        """By fsGroupPolicy of the CSIDriver; the default is a filesystem that one node writes."""
        policy = (self._kind.get("spec") or {}).get("fsGroupPolicy") or "ReadWriteOnceWithFSType"
        if policy == "None" or core.VOLUME_MOUNT_GROUP in self._csi.capabilities(self._driver):
            return False
        if policy == "File":
            return True
        once = any(mode.startswith("ReadWriteOnce") for mode in self._context.access_modes)
        return bool(self._context.spec.source.get("fsType")) and once

    def recover(self) -> bool:
        """Whether it is published."""
        return self.path.exists()

    def refresh(self) -> None:
        """Does nothing: such a volume has no objects that could change."""

    def over_limit(self) -> str:
        """Never: its size is its driver's matter."""
        return ""

    def unmount(self) -> None:
        """Does nothing, as detach()."""
