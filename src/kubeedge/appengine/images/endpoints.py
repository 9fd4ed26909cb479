"""Where an image may come from: its registry, and before it the mirrors of that registry. Pure.

A mirror is HOST[:PORT][/PREFIX], and its repositories are PREFIX/REPOSITORY. How a host is spoken to (plain HTTP, which certificates count)
is said of that host, whether it is a registry or a mirror of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kubeedge.appengine.images.names import ImageName
from kubeedge.kit.dataclasses import dataclass

DOCKER_HUB = "registry-1.docker.io"  # who answers for docker.io
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class RegistryEndpoint:
    """One place to ask for one image. `name` is the registry as image names and credentials have it, `host` who is connected to."""

    name: str
    host: str
    repository: str


@dataclass(frozen=True, slots=True)
class RegistryMirrors:
    """What is configured of registries; one that is not named here is asked over TLS, with the certificates that this machine trusts."""

    mirrors: Mapping[str, Sequence[str]]
    plain: frozenset[str]
    authorities: Mapping[str, str]  # host -> path of a PEM file

    @classmethod
    def of(cls, entries: Sequence[Mapping[str, Any]], insecure: Sequence[str] = ()) -> RegistryMirrors:
        """From {"registry", "mirrors", "plainHttp", "ca"} each; `insecure` are further ones without TLS."""
        return cls(
            {str(e["registry"]): tuple(e.get("mirrors") or ()) for e in entries},
            frozenset((*insecure, *(str(e["registry"]) for e in entries if e.get("plainHttp")))),
            {str(e["registry"]): str(e["ca"]) for e in entries if e.get("ca")},
        )

    def endpoints(self, name: ImageName) -> list[RegistryEndpoint]:
        """The endpoints for an image, in the order in which they are tried."""
        found = []
        for mirror in self.mirrors.get(name.registry, ()):
            host, _, prefix = mirror.strip("/").partition("/")
            found.append(RegistryEndpoint(host, host, f"{prefix}/{name.repository}" if prefix else name.repository))
        own = DOCKER_HUB if name.registry == "docker.io" else name.registry
        return [*found, RegistryEndpoint(name.registry, own, name.repository)]

    def is_plain(self, host: str) -> bool:
        """Whether it may be spoken to without TLS: configured, or on this machine."""
        return host in self.plain or host.rsplit(":", 1)[0] in _LOOPBACK or host in _LOOPBACK

    def authority(self, host: str) -> str | None:
        """The PEM file of those who may vouch for it; None: whom this machine trusts."""
        return self.authorities.get(host)
