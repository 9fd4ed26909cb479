"""Tells a cluster where its API server has devices converted, and by which authority that address is proved.

The CustomResourceDefinitions of devices (cloud/crds) name a webhook that does not exist. Those that are applied in a cluster get the address of this
installation; what names another webhook than ours, or none, stays as it is.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Mapping
from typing import Any

from kubeedge.api.client import KubeClient, Resource
from kubeedge.api.names import Object, TenantId
from kubeedge.api.status import ObjectNotFound
from kubeedge.errors import KubeEdgeError
from kubeedge_cloud.devicecontroller.crds import NO_WEBHOOK

log = logging.getLogger("kubeedge.clustercalls")

DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
NAMES = ("devices.devices.kubeedge.io", "devicemodels.devices.kubeedge.io")
PATH = "/convert/devices.kubeedge.io"
_LOOK = 30.0  # seconds between two looks


def client_config(authority: bytes, *, service: str = "", endpoint: str = "") -> Object:
    """Where API servers reach us: at a Service, NAMESPACE/NAME, or at HOST:PORT. `authority`: of our certificate, PEM."""
    bundle = {"caBundle": base64.b64encode(authority).decode()}
    if not service:
        return {"url": f"https://{endpoint}{PATH}", **bundle}
    namespace, _, name = service.partition("/")
    return {"service": {"namespace": namespace, "name": name, "path": PATH, "port": 443}, **bundle}


def change(definition: Object, config: Mapping[str, Any]) -> Object | None:
    """The merge patch that makes a definition name that webhook; None: it does, or it has one that is not ours."""
    conversion = (definition.get("spec") or {}).get("conversion") or {}
    has = (conversion.get("webhook") or {}).get("clientConfig") or {}
    ours = (has.get("url") or "").endswith(PATH) or (has.get("service") or {}).get("path") == PATH
    if conversion.get("strategy") != "Webhook" or not (ours or has.get("url") == NO_WEBHOOK) or has == config:
        return None
    without = {key: None for key in ("url", "service") if key in has and key not in config}
    return {"spec": {"conversion": {"webhook": {"clientConfig": {**without, **config}}}}}


class ConversionWebhook:
    """Of the cluster of one tenant."""

    def __init__(self, tenant: TenantId, client: KubeClient, config: Mapping[str, Any]) -> None:
        self._tenant = tenant
        self._client = client
        self._config = config
        self._said = ""

    async def run(self) -> None:
        """Looks from time to time until it is cancelled."""
        while True:
            try:
                for name in NAMES:
                    await self._look(name)
                self._said = ""
            except (KubeEdgeError, OSError) as exc:
                if (text := str(exc)) != self._said:
                    log.warning("tenant=%s: v1alpha2 of devices is not served in its cluster: %s", self._tenant, text)
                self._said = text
            await asyncio.sleep(_LOOK)

    async def _look(self, name: str) -> None:
        try:
            definition = await self._client.get(DEFINITIONS, "", name)
        except ObjectNotFound:
            return
        if (patch := change(definition, self._config)) is not None:
            await self._client.merge_patch(DEFINITIONS, "", name, patch)
            log.info("tenant=%s: its cluster has %s converted here", self._tenant, name)
