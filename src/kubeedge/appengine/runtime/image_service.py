"""The images of a runtime, as AppEngine sees them (CRI: ImageService). Pure: types alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from kubeedge.kit.dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageStatus:
    """An image on this node (CRI: Image)."""

    id: str  # digest of its configuration
    names: Sequence[str]  # in full, with tag or digest
    digests: Sequence[str] = ()  # REPOSITORY@DIGEST of its manifest, where it is known
    size: int = 0  # bytes, unpacked; layers that images share count for each of them
    pinned: bool = False  # never collected


ANY_REGISTRY = "*"  # key of credentials that are for whatever registry the image is of


class ImageService(Protocol):
    """The images of a runtime. Names are taken in any spelling, Invalid is raised for what is none."""

    async def list(self) -> Sequence[ImageStatus]:
        """One entry for each image, with all its names."""
        ...

    async def status(self, name: str) -> ImageStatus | None:
        """The status of an image; None when it is not on this node, or not complete."""
        ...

    async def pull(self, name: str, auth: Mapping[str, str]) -> str:
        """From its registry, though one of this name may be here; the image's id. `auth`: registry -> base64 of "user:password".

        Callers that want the same share one pull, which goes on when they give up. Raises Invalid with the reason.
        """
        ...

    async def restore(self, name: str) -> bool:
        """Whether it could be brought back without a registry, from what lies on this node."""
        ...

    async def load(self, archive: Path, names: Sequence[str] = ()) -> Sequence[str]:
        """From an archive on this node, under `names` or else its own; the names. Raises Invalid."""
        ...

    async def remove(self, name: str) -> None:
        """Under this name, and what no other image and no container needs. One that is not here is success."""
        ...

    async def save(self, name: str, archive: Path) -> None:
        """Into an archive on this node. Raises Invalid, NotFound; a runtime that cannot says so."""
        ...

    async def prune(self) -> int:
        """What belongs to no image any more is removed; bytes that it had."""
        ...

    async def preload(self) -> None:
        """Once after the start: what lies beside the agent. A failure is a line in the log."""
        ...

    async def close(self) -> None:
        """Ends what is under way."""
        ...
