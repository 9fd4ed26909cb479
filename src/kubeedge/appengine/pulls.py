"""Whether an image has to be pulled before a container starts, and with which credentials.

Lives elsewhere: the pull itself (the runtime's image service).
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping

from kubeedge.api.names import Object
from kubeedge.api.registry_auth import credentials
from kubeedge.appengine.runtime.base import StartError
from kubeedge.appengine.runtime.image_service import ImageService
from kubeedge.errors import Invalid

#: seconds that imagePullPolicy Always may take while the image is here already; then what is here will do, for at the edge the
#: registry is out of reach more often than the tag has moved
REFRESH_TIMEOUT = 3.0


class ImagePulls:
    """Applies imagePullPolicy to what the runtime's image service has."""

    def __init__(self, images: ImageService) -> None:
        self._images = images

    async def ensure(
        self, image: str, policy: str, auth: Mapping[str, str], pulling: Callable[[], Awaitable[None]]
    ) -> bool:
        """Whether it was pulled. `pulling` is told before one waits for the registry. Raises StartError."""
        try:
            here = await self._images.status(image) is not None or await self._images.restore(image)
        except Invalid as exc:
            raise StartError("InvalidImageName", str(exc)) from exc
        if here and policy != "Always":
            return False
        if policy == "Never":
            if here:
                return False
            raise StartError("ErrImageNeverPull", f"image {image} is not on this node and may not be pulled")
        if not here:
            await pulling()
        try:
            async with asyncio.timeout(REFRESH_TIMEOUT if here else None):
                await self._images.pull(image, auth)
        except TimeoutError:
            return False
        except Invalid as exc:
            if here:  # offline is normal: what is here will do
                return False
            raise StartError("ErrImagePull", f"failed to pull image {image}: {exc}") from exc
        return True


def registry_auth(secrets: Iterable[Object | None]) -> dict[str, str]:
    """Registry, with or without a path, -> base64 of "user:password", from secrets of type kubernetes.io/dockerconfigjson and dockercfg.
    Others are passed over."""
    auth: dict[str, str] = {}
    for secret in secrets:
        data = (secret or {}).get("data")
        for key in (".dockerconfigjson", ".dockercfg"):
            try:
                auth |= credentials(json.loads(base64.b64decode(data[key]))) if data else {}
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
    return auth
