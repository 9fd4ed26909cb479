"""Pulls images from a registry: the distribution API v2, with Bearer or Basic authentication."""

from __future__ import annotations

import http.client
import re
import urllib.parse
from collections.abc import Sequence
from typing import Any

from kubeedge.appengine.images import documents
from kubeedge.appengine.images.layers import unpack_layer
from kubeedge.appengine.images.names import ImageName
from kubeedge.appengine.images.store import ImageStore, chain_ids
from kubeedge.errors import Invalid

_TIMEOUT = 30.0  # seconds without a byte
_REDIRECTS = 5
_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


class Puller:
    """One image from one registry."""

    def __init__(self, store: ImageStore, insecure: Sequence[str], auth: dict[str, str]) -> None:
        self._store = store
        self._insecure = insecure
        self._auth = auth
        self._bearer = ""

    def pull(self, name: ImageName) -> list[str]:
        """The names that the image has in the store now. Layers that are here already are not fetched. Raises Invalid when the registry
        answers with something else than its specification says, or when content does not have its digest."""
        manifest = self._manifest(name, name.digest or name.tag)
        if "manifests" in manifest:
            manifest = self._manifest(name, documents.checked_digest(documents.choose(manifest["manifests"])["digest"]))
        if "config" not in manifest:
            raise Invalid(f"{name}: manifests of schema 1 are not supported")
        config_digest = documents.checked_digest(manifest["config"]["digest"])
        config_bytes = self._get(name, f"blobs/{config_digest}").read(documents.MAX_MANIFEST + 1)
        if documents.digest(config_bytes) != config_digest:
            raise Invalid(f"{name}: the configuration does not have its digest")
        config, diff_ids = documents.config(config_bytes, len(manifest["layers"]))
        for n, item in enumerate(manifest["layers"], 1):
            if self._store.has_layer(chain_ids(diff_ids[:n])[-1]):
                continue
            if "zstd" in item.get("mediaType", ""):
                raise Invalid(f"{name}: layers compressed with zstd are not supported; push it with gzip layers")
            blob = f"blobs/{documents.checked_digest(item['digest'])}"
            unpack_layer(self._store, diff_ids[:n], self._get(name, blob))
        self._store.tag([str(name)], config_digest, chain_ids(diff_ids), config)
        return [str(name)]

    def _manifest(self, name: ImageName, reference: str) -> dict[str, Any]:
        body = self._get(name, f"manifests/{reference}").read(documents.MAX_MANIFEST + 1)
        if len(body) > documents.MAX_MANIFEST:
            raise Invalid(f"{name}: manifest of more than {documents.MAX_MANIFEST} bytes")
        if reference.startswith("sha256:") and documents.digest(body) != reference:
            raise Invalid(f"{name}: the manifest does not have its digest")
        return documents.object_of(body, f"{name}: the manifest")

    def _get(self, name: ImageName, what: str) -> http.client.HTTPResponse:
        registry = "registry-1.docker.io" if name.registry == "docker.io" else name.registry
        scheme = "http" if self._plain(registry) else "https"
        url = f"{scheme}://{registry}/v2/{name.repository}/{what}"
        basic = self._auth.get(name.registry, "")
        response, host = self._open(url, registry, basic)
        # also in the middle of a pull: a token is valid for a limited time or number of requests. Who is asked after a redirect gets none
        if response.status == 401 and host == registry:
            self._authenticate(response.getheader("www-authenticate", ""), name)
            response, host = self._open(url, registry, basic)
        if response.status == 404:
            raise Invalid(f"{name} does not exist in the registry {name.registry}")
        if response.status in (401, 403):
            raise Invalid(f"{name}: the registry {name.registry} wants other credentials (imagePullSecrets)")
        if response.status != 200:
            raise Invalid(f"{name}: the registry answered {response.status} {response.reason}")
        return response

    def _plain(self, registry: str) -> bool:
        host = registry.rsplit(":", 1)[0]
        return registry in self._insecure or host in ("localhost", "127.0.0.1", "[::1]")

    def _open(self, url: str, registry: str, basic: str) -> tuple[http.client.HTTPResponse, str]:
        """And who gave it. Follows redirects; credentials go to the registry alone."""
        for _ in range(_REDIRECTS):
            parts = urllib.parse.urlsplit(url)
            secure = parts.scheme == "https"
            kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
            headers = {"accept": _ACCEPT, "user-agent": "kubeedge"}
            if parts.netloc == registry:
                if self._bearer:
                    headers["authorization"] = f"Bearer {self._bearer}"
                elif basic:
                    headers["authorization"] = f"Basic {basic}"
            connection = kind(parts.netloc, timeout=_TIMEOUT)
            try:
                connection.request("GET", parts.path + (f"?{parts.query}" if parts.query else ""), headers=headers)
                response = connection.getresponse()
            except OSError as exc:
                raise Invalid(f"cannot reach the registry {parts.netloc}: {exc}") from exc
            if response.status not in (301, 302, 303, 307, 308):
                return response, parts.netloc
            target = urllib.parse.urljoin(url, response.getheader("location", ""))
            if secure and not target.startswith("https://"):
                raise Invalid(f"the registry {parts.netloc} redirects from https to {target.split(':')[0]}")
            url = target
        raise Invalid(f"more than {_REDIRECTS} redirects")

    def _authenticate(self, challenge: str, name: ImageName) -> None:
        if not challenge.lower().startswith("bearer "):
            raise Invalid(f"{name}: the registry {name.registry} wants credentials (imagePullSecrets)")
        fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        query = {"scope": fields.get("scope") or f"repository:{name.repository}:pull"}
        if "service" in fields:
            query["service"] = fields["service"]
        realm = urllib.parse.urlsplit(fields.get("realm", ""))
        if realm.scheme != "https" and not (realm.scheme == "http" and self._plain(realm.netloc)):
            raise Invalid(f"{name}: the token service {realm.netloc!r} is not reached over https")
        kind = http.client.HTTPSConnection if realm.scheme == "https" else http.client.HTTPConnection
        headers = {"authorization": f"Basic {self._auth[name.registry]}"} if name.registry in self._auth else {}
        connection = kind(realm.netloc, timeout=_TIMEOUT)
        connection.request("GET", f"{realm.path}?{urllib.parse.urlencode(query)}", headers=headers)
        response = connection.getresponse()
        if response.status != 200:
            raise Invalid(f"{name}: the token service {realm.netloc} answered {response.status} (imagePullSecrets)")
        answer = documents.object_of(response.read(documents.MAX_MANIFEST), f"{name}: the token")
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str):
            raise Invalid(f"{name}: the token service {realm.netloc} gives no token")
        self._bearer = token
