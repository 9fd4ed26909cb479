"""The ImageService of a CRI runtime."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from kubeedge.api.names import Object
from kubeedge.appengine.images.names import parse
from kubeedge.appengine.runtime.cri.client import QUICK, CriClient
from kubeedge.appengine.runtime.image_service import ImageStatus
from kubeedge.errors import Invalid
from kubeedge.kit.grpc import NOT_FOUND, GrpcError

log = logging.getLogger("kubeedge.appengine.runtime")

_PULL = (
    6 * 3600.0
)  # seconds: a large image on a slow line; the runtime has a limit of its own for one that stands still
_IMPORT = 6 * 3600.0  # seconds: a large archive on a slow card


class CriImages:
    """Images are the runtime's; archives are brought in by containerd's own tool, since CRI has no call for it."""

    def __init__(
        self, client: CriClient, socket: Path, preload: Path, name: Callable[[], str], pinned: Iterable[str] = ()
    ) -> None:
        """`preload`: a directory with archives; `name` is that of the runtime; `pinned`: images that are never collected."""
        self.pinned = {str(parse(name)) for name in pinned}
        self._client, self._socket, self._preload, self._name = client, socket, preload, name
        self._pulls: dict[str, asyncio.Task[str]] = {}

    async def list(self) -> Sequence[ImageStatus]:
        answer = await self._client.call("ListImages", within=QUICK)
        return [status_of(image, self.pinned) for image in answer.get("images", ())]

    async def find(self, name: str) -> Object | None:
        """Image, as CRI has it; None: it is not here. Raises Invalid, GrpcError."""
        answer = await self._client.call("ImageStatus", within=QUICK, image={"image": str(parse(name))})
        found: Object | None = answer.get("image")
        return found

    async def status(self, name: str) -> ImageStatus | None:
        found = await self.find(name)
        return status_of(found, self.pinned) if found is not None else None

    async def pull(self, name: str, auth: Mapping[str, str]) -> str:
        full = str(parse(name))
        task = self._pulls.get(full)
        if task is None:
            task = self._pulls[full] = asyncio.create_task(self._pull(name, auth), name=f"pull {full}")
            task.add_done_callback(lambda ended: self._over(full, ended))
        return await asyncio.shield(task)

    def _over(self, full: str, pull: asyncio.Task[str]) -> None:
        self._pulls.pop(full, None)
        if not pull.cancelled():
            pull.exception()  # who waited for it may be gone: the pod was deleted

    async def _pull(self, name: str, auth: Mapping[str, str]) -> str:
        image = parse(name)
        fields: Object = {"image": {"image": str(image)}}
        if credentials := auth.get(image.registry) or auth.get("*"):
            fields["auth"] = {"auth": credentials, "server_address": image.registry}
        try:
            await self._client.call("PullImage", within=_PULL, **fields)
            found = await self.find(name)
        except GrpcError as exc:
            raise Invalid(str(exc)) from exc
        return str(found.get("id", "")) if found is not None else ""

    async def restore(self, name: str) -> bool:
        return False

    async def load(self, archive: Path, names: Sequence[str] = ()) -> Sequence[str]:
        before = {name for image in await self.list() for name in image.names}
        tool = shutil.which("ctr") if self._name() == "containerd" else None
        if tool is None or names:
            raise Invalid(
                f"{self._name()} takes images from registries alone" if tool is None else "ctr names images itself"
            )
        process = await asyncio.create_subprocess_exec(
            tool, "-a", str(self._socket), "-n", "k8s.io", "images", "import", str(archive),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            async with asyncio.timeout(_IMPORT):
                said, _ = await process.communicate()
        except BaseException:
            if process.returncode is None:
                process.kill()
                await process.wait()
            raise
        if process.returncode:
            raise Invalid(f"ctr: {said[-500:].decode(errors='replace').strip()}")
        return sorted({name for image in await self.list() for name in image.names} - before)

    async def remove(self, name: str) -> None:
        try:
            await self._client.call("RemoveImage", image={"image": str(parse(name))})
        except GrpcError as exc:
            if exc.code != NOT_FOUND:
                raise

    async def save(self, name: str, archive: Path) -> None:
        raise Invalid(f"image {name}: CRI has no call that writes an archive")

    async def prune(self) -> int:
        """The runtime collects its own garbage when an image is removed."""
        return 0

    async def preload(self) -> None:
        for archive in sorted(self._preload.glob("*.tar")):
            try:
                await self.load(archive)
            except (Invalid, GrpcError, OSError) as exc:
                log.warning("%s was not brought in: %s", archive.name, exc)

    async def close(self) -> None:
        pulls = list(self._pulls.values())
        for task in pulls:
            task.cancel()
        await asyncio.gather(*pulls, return_exceptions=True)


def status_of(image: Object, pinned: Collection[str]) -> ImageStatus:
    """Of an Image of CRI. One without a tag goes by its digests; `pinned`: names that are never collected, besides the runtime's own."""
    digests = tuple(image.get("repo_digests", ()))
    names = tuple(image.get("repo_tags", ())) or digests
    is_pinned = bool(image.get("pinned")) or any(name in pinned for name in names)
    return ImageStatus(str(image.get("id", "")), names, digests, int(image.get("size", 0)), is_pinned)
