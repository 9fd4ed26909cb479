"""Image names as users write them, and what they mean (distribution/reference)."""

from __future__ import annotations

import re

from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass

_DOMAIN = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]+)?)"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[\w][\w.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ImageName:
    """An image name in full. `tag` is "latest" when none was given; `digest` may be "", and decides when it is not."""

    registry: str
    repository: str
    tag: str
    digest: str

    def __str__(self) -> str:
        tail = f"@{self.digest}" if self.digest else f":{self.tag}"
        return f"{self.registry}/{self.repository}{tail}"


def parse(text: str) -> ImageName:
    """ "busybox" -> docker.io/library/busybox:latest. Raises Invalid."""
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise Invalid(f"image {text!r}: the digest is not sha256:<64 hex digits>")
    head, slash, tail = rest.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        registry, path = head, tail
    else:
        registry, path = "docker.io", rest
    path, colon, tag = path.rpartition(":") if ":" in path.rsplit("/", 1)[-1] else (path, "", "")
    if registry == "docker.io" and "/" not in path:
        path = f"library/{path}"
    if not re.fullmatch(_DOMAIN, registry) or not _PATH.fullmatch(path) or (colon and not _TAG.fullmatch(tag)):
        raise Invalid(f"{text!r} is not an image name")
    return ImageName(registry, path, tag or "latest", digest)
