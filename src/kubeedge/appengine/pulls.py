"""Bringing an image to the node when a container asks for it: policy, credentials, one pull for all that wait for it.

Lives elsewhere: the pull itself, in a helper process (images/fetch.py).
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from kubeedge.api.names import Object
from kubeedge.appengine.images.fetch import run_helper
from kubeedge.appengine.images.names import parse
from kubeedge.appengine.images.store import ImageStore
from kubeedge.appengine.runtime.base import StartError
from kubeedge.errors import Invalid

log = logging.getLogger("kubeedge.appengine")

#: seconds that imagePullPolicy Always may take while the image is here already; then what is here will do, for at the edge the
#: registry is out of reach more often than the tag has moved
REFRESH_TIMEOUT = 3.0

Helper = Callable[[dict[str, Any]], Awaitable[list[str]]]


class ImagePulls:
    def __init__(self, images: ImageStore, insecure: Sequence[str], helper: Helper = run_helper) -> None:
        self._images = images
        self._insecure = list(insecure)
        self._helper = helper
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def ensure(
        self, image: str, policy: str, auth: dict[str, str], pulling: Callable[[], Awaitable[None]]
    ) -> bool:
        """Whether it was pulled. `pulling` is told before one waits for the registry. Raises StartError."""
        try:
            name = str(parse(image))
        except Invalid as exc:
            raise StartError("InvalidImageName", str(exc)) from exc
        here = self._images.find(name) is not None or await self._restored(name)
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
                await self._pull(name, auth)
        except TimeoutError:
            return False
        except Invalid as exc:
            if here:  # offline is normal: what is here will do
                return False
            raise StartError("ErrImagePull", f"failed to pull image {image}: {exc}") from exc
        return True

    async def close(self) -> None:
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _restored(self, name: str) -> bool:
        """Its layers are gone, but the archive that they came from may still be here; no registry need have it."""
        archive = await asyncio.to_thread(self._images.preloaded, name)
        if archive is None:
            return False
        try:
            await self._once((str(archive), ""), {"root": str(self._images.root), "archive": str(archive)})
        except Invalid as exc:
            log.warning("cannot import %s again: %s", archive, exc)
        return self._images.find(name) is not None

    async def _pull(self, name: str, auth: dict[str, str]) -> None:
        """With other credentials it is another pull."""
        request = {"root": str(self._images.root), "pull": name, "insecure": self._insecure, "auth": auth}
        await self._once((name, json.dumps(auth, sort_keys=True)), request)

    async def _once(self, key: tuple[str, str], request: dict[str, Any]) -> None:
        """Who waits may give up; it goes on for the next one."""
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._run(request), name=f"image {key[0]}")
            task.add_done_callback(lambda done: self._ended(key, done))
        await asyncio.shield(task)

    async def _run(self, request: dict[str, Any]) -> None:
        await self._helper(request)

    def _ended(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # everybody who waited may have gone


def registry_auth(secrets: Iterable[Object | None]) -> dict[str, str]:
    """Registry -> base64 of "user:password", from secrets of type kubernetes.io/dockerconfigjson. Others are passed over."""
    auth: dict[str, str] = {}
    for secret in secrets:
        try:
            document = json.loads(base64.b64decode((secret or {})["data"][".dockerconfigjson"]))
            for registry, entry in document["auths"].items():
                text = (
                    entry.get("auth") or base64.b64encode(f"{entry['username']}:{entry['password']}".encode()).decode()
                )
                auth[_registry(str(registry))] = str(text)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return auth


def _registry(text: str) -> str:
    """As image names have it: docker login writes "https://index.docker.io/v1/" for docker.io."""
    host = text.removeprefix("https://").removeprefix("http://").split("/")[0]
    return "docker.io" if host in ("index.docker.io", "registry-1.docker.io") else host
