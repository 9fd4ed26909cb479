"""Pulls an image: manifest, configuration, layers, from its registry or a mirror of it (the distribution API v2).

Lives elsewhere: HTTP and authentication (transport.py), where to ask (endpoints.py), blobs that come over bad lines (blobs.py), layers on their
way into the store (layers.py).

Layers are unpacked one after the other, for each is unpacked with its parents in view; the next ones are fetched meanwhile, as many as
`parallel` says, so disk and memory are bounded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kubeedge.api import registry_auth
from kubeedge.appengine.images import blobs, documents
from kubeedge.appengine.images.endpoints import RegistryEndpoint, RegistryMirrors
from kubeedge.appengine.images.layers import MAX_LAYER, unpack_layer
from kubeedge.appengine.images.names import ImageName
from kubeedge.appengine.images.parts import Part
from kubeedge.appengine.images.store import ImageStore, chain_ids
from kubeedge.appengine.images.transport import Absent, RegistryResponse, RegistryTransport, Unreachable
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field

PARALLEL = 3  # layers that are fetched at a time, as docker and containerd do
_SLACK = 1024 * 1024  # bytes that must be free beside the layers
_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PullSettings:
    """What a pull needs to know beside the name. `auth`: registry, with or without a path, -> base64 of "user:password"."""

    registries: RegistryMirrors = field(default_factory=lambda: RegistryMirrors.of(()))
    auth: Mapping[str, str] = field(default_factory=dict)
    parallel: int = PARALLEL
    pause: float = blobs.PAUSE  # seconds after a first failure


@dataclass(frozen=True, slots=True)
class _Layer:
    digest: str  # of the blob
    size: int  # of the blob, bytes
    diff_ids: Sequence[str]  # its own is the last; those before it are below

    @property
    def chain_id(self) -> str:
        return chain_ids(self.diff_ids)[-1]


class Puller:
    """Images from their registries, each once asked for."""

    def __init__(self, store: ImageStore, settings: PullSettings) -> None:
        self._store = store
        self._settings = settings
        self._transport = RegistryTransport(settings.registries)

    def pull(self, name: ImageName) -> list[str]:
        """The names that the image has in the store now. Layers that are here already are not fetched. Raises Invalid when the registry
        answers with something else than its specification says, or when content does not have its digest; OSError for a full disk."""
        with contextlib.closing(self._transport):
            return self._pull(name)

    def _pull(self, name: ImageName) -> list[str]:
        endpoints = self._settings.registries.endpoints(name)
        for endpoint in endpoints:
            found = registry_auth.matching(self._settings.auth, endpoint.name, endpoint.repository)
            self._transport.introduce(endpoint, found)
        reference = name.digest or name.tag
        manifest, digest = self._manifest(name, endpoints, reference)
        if "manifests" in manifest:
            chosen = documents.checked_digest(documents.choose(manifest["manifests"])["digest"])
            manifest, _ = self._manifest(name, endpoints, chosen)
        if "config" not in manifest:
            raise Invalid(f"{name}: manifests of schema 1 are not supported")
        config_digest = documents.checked_digest(manifest["config"]["digest"])
        config_bytes = self._anywhere(name, endpoints, f"blobs/{config_digest}", _document)
        if documents.digest(config_bytes) != config_digest:
            raise Invalid(f"{name}: the configuration does not have its digest")
        config, diff_ids = documents.config(config_bytes, len(manifest["layers"]))
        layers = [
            _Layer(documents.checked_digest(item["digest"]), _size(item), diff_ids[:n])
            for n, item in enumerate(manifest["layers"], 1)
        ]
        self._fetch(name, endpoints, layers)
        self._store.tag([str(name)], config_digest, chain_ids(diff_ids), config, digest=digest)
        return [str(name)]

    def _manifest(
        self, name: ImageName, endpoints: Sequence[RegistryEndpoint], reference: str
    ) -> tuple[dict[str, Any], str]:
        """A manifest and its digest. Raises Invalid when it is not the one that was asked for."""
        body = self._anywhere(name, endpoints, f"manifests/{reference}", _document)
        digest = documents.digest(body)
        if reference.startswith("sha256:") and digest != reference:
            raise Invalid(f"{name}: the manifest does not have its digest")
        return documents.object_of(body, f"{name}: the manifest"), digest

    def _anywhere(
        self,
        name: ImageName,
        endpoints: Sequence[RegistryEndpoint],
        what: str,
        read: Callable[[RegistryResponse], bytes],
    ) -> bytes:
        """From the first endpoint that has it; what the last one says when none has."""
        for endpoint in endpoints[:-1]:
            with contextlib.suppress(Invalid):
                return read(self._transport.get(endpoint, what, accept=_ACCEPT))
        try:
            return read(self._transport.get(endpoints[-1], what, accept=_ACCEPT))
        except Absent as exc:
            raise Invalid(f"{name} {exc}") from exc
        except Invalid as exc:
            raise Invalid(f"{name}: {exc}") from exc

    # -- layers ----------------------------------------------------------------------------------------------------------------

    def _fetch(self, name: ImageName, endpoints: Sequence[RegistryEndpoint], layers: Sequence[_Layer]) -> None:
        missing = [layer for layer in layers if not self._store.has_layer(layer.chain_id)]
        self._check_room(name, missing)
        ahead: dict[str, blobs.Download] = {}  # by digest, in the order of their layers
        try:
            for n, layer in enumerate(missing):
                for later in missing[n : n + self._settings.parallel]:
                    if later.digest not in ahead and (download := self._download(endpoints, later, wait=False)):
                        ahead[later.digest] = download
                self._unpack(endpoints, layer, ahead)
        except BaseException as exc:
            for download in ahead.values():
                download.finish(keep=not blobs.is_full(exc))
            raise

    def _check_room(self, name: ImageName, missing: Sequence[_Layer]) -> None:
        """Before anything is fetched: unpacked it will be more, but less than this will not do."""
        needed, free = sum(layer.size for layer in missing), self._store.free_bytes()
        if missing and needed + _SLACK > free:
            raise Invalid(f"{name}: no space left on device: the layers have {needed} bytes, {free} are free")

    def _unpack(self, endpoints: Sequence[RegistryEndpoint], layer: _Layer, ahead: dict[str, blobs.Download]) -> None:
        """What a mirror sends, or an earlier process fetched, may not be what it should be: then again, from the registry itself."""
        own = endpoints[-1:]
        for asked in (endpoints, own, own):
            download = ahead.pop(layer.digest, None)
            if download is None:  # another process fetches it, or this is the second try; who waits must hold nothing
                for other in ahead.values():
                    other.finish(keep=True)
                ahead.clear()
                download = self._download(asked, layer, wait=True)
                assert download is not None
            keep = False
            try:
                unpack_layer(self._store, layer.diff_ids, download.reader())  # type: ignore[arg-type]
                return
            except Unreachable:
                keep = True
                if len(asked) == 1:
                    raise
            except Invalid:
                if len(asked) == 1 and not download.resumed:
                    raise
            finally:
                download.finish(keep=keep)
        raise Invalid(f"layer {layer.digest} is not what its digest says")

    def _download(self, endpoints: Sequence[RegistryEndpoint], layer: _Layer, *, wait: bool) -> blobs.Download | None:
        """The download of a layer; None when another process has it and `wait` is false."""
        part = Part.take(self._store.part(layer.digest), wait=wait)
        if part is None:
            return None

        def open_at(offset: int) -> RegistryResponse:
            what = f"blobs/{layer.digest}"
            for endpoint in endpoints[:-1]:
                with contextlib.suppress(Invalid):
                    return self._transport.get(endpoint, what, offset=offset)
            return self._transport.get(endpoints[-1], what, offset=offset)

        download = blobs.Download(part, layer.digest, layer.size, open_at, self._settings.pause)
        download.start()
        return download


def _size(item: Mapping[str, Any]) -> int:
    size = item.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_LAYER:
        raise Invalid(f"layer {item.get('digest')!r:.80} has the size {size!r:.40}")
    return size


def _document(response: RegistryResponse) -> bytes:
    """All of a manifest or a configuration."""
    with contextlib.closing(response):
        return response.read_all(documents.MAX_MANIFEST)
