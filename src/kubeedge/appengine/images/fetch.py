"""Brings images to the store: from an archive, or from a registry. A helper process, with everything heavy in it.

    python -m kubeedge.appengine.images.fetch        one JSON object on stdin, one on stdout

    {"root", "archive", "names"}                     -> {"names": [...]}
    {"root", "pull": NAME, "insecure": [...], "auth": {registry: "base64 user:password"}} -> {"names": [NAME]}
    failures                                         -> {"error": "..."}

Archives: OCI image layout (index.json) and docker save (manifest.json). Registries: distribution API v2 with Bearer or Basic authentication.
A layer is unpacked while its digest is computed, into a directory that becomes the layer's only when the digest is right.
"""

from __future__ import annotations

import asyncio
import ctypes
import gzip
import hashlib
import http.client
import io
import json
import os
import re
import resource
import shutil
import sys
import tarfile
import tempfile
import urllib.parse
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from kubeedge.appengine.images.names import ImageName, parse
from kubeedge.appengine.images.store import ImageStore
from kubeedge.appengine.images.unpack import unpack
from kubeedge.errors import Invalid

MAX_MANIFEST = 4 * 1024 * 1024  # bytes, as registries limit it
MAX_LAYER = 4 * 1024 * 1024 * 1024  # bytes, unpacked
MAX_MEMORY = 512 * 1024 * 1024  # bytes of address space of the helper: an archive's headers may ask for any amount
MAX_LAYERS = 127  # overlayfs takes no more by its option string
_PATIENCE = 30.0  # seconds without a byte
_REDIRECTS = 5
#: what bad input, a bad disk or a bad network may raise
_FAILURES = (
    Invalid, OSError, ValueError, KeyError, TypeError, EOFError, tarfile.TarError, zlib.error, http.client.HTTPException,
)  # fmt: skip
_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm", "riscv64": "riscv64"}


# -- in the agent --------------------------------------------------------------------------------------------------------------


async def run_helper(request: dict[str, Any], *, timeout: float = 1800.0) -> list[str]:
    """Run a request in a helper; the names that the image has now. Raises Invalid with the helper's reason."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "kubeedge.appengine.images.fetch",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(timeout):
            out, _ = await process.communicate(json.dumps(request).encode())
    except TimeoutError as exc:
        raise Invalid(f"not done within {timeout:g} s") from exc
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        answer = json.loads(out)
    except ValueError as exc:
        raise Invalid(f"the image helper ended with status {process.returncode}") from exc
    if "error" in answer:
        raise Invalid(answer["error"])
    names: list[str] = answer["names"]
    return names


# -- in the helper -------------------------------------------------------------------------------------------------------------


def main() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    request = json.loads(sys.stdin.read(1 << 20))
    store = ImageStore(Path(request["root"]))
    try:
        if "archive" in request:
            names = import_archive(store, Path(request["archive"]), request.get("names", ()))
        else:
            names = Puller(store, request.get("insecure", ()), request.get("auth", {})).pull(parse(request["pull"]))
        print(json.dumps({"names": names}))
    except MemoryError:
        print(json.dumps({"error": f"it takes more than {MAX_MEMORY} bytes of memory to read it"}))
    except _FAILURES as exc:
        print(json.dumps({"error": str(exc) or type(exc).__name__}))
    return 0


def import_archive(store: ImageStore, archive: Path, names: Sequence[str] = ()) -> list[str]:
    with tarfile.open(archive) as tar:
        members = {m.name.removeprefix("./"): m for m in tar if m.isreg()}

        def read(name: str, limit: int) -> bytes:
            member = members.get(name)
            if member is None or member.size > limit:
                raise Invalid(f"{archive.name}: {name} is missing or too large")
            file = tar.extractfile(member)
            assert file is not None
            return file.read()

        def layer(name: str) -> IO[bytes]:
            member = members.get(name)
            file = tar.extractfile(member) if member else None
            if file is None:
                raise Invalid(f"{archive.name}: layer {name} is missing")
            return file

        if "manifest.json" in members:  # docker save
            entry = json.loads(read("manifest.json", MAX_MANIFEST))[0]
            config_bytes = read(entry["Config"], MAX_MANIFEST)
            layers = [layer(name) for name in entry["Layers"]]
            own_names = entry.get("RepoTags") or []
        else:  # OCI layout
            index = json.loads(read("index.json", MAX_MANIFEST))
            descriptor = _choose(index["manifests"])
            manifest = json.loads(read(_blob(descriptor["digest"]), MAX_MANIFEST))
            if "manifests" in manifest:
                manifest = json.loads(read(_blob(_choose(manifest["manifests"])["digest"]), MAX_MANIFEST))
            config_bytes = read(_blob(manifest["config"]["digest"]), MAX_MANIFEST)
            layers = [layer(_blob(item["digest"])) for item in manifest["layers"]]
            annotations = descriptor.get("annotations") or {}
            own_names = [
                annotations[key]
                for key in ("io.containerd.image.name", "org.opencontainers.image.ref.name")
                if ":" in annotations.get(key, "")
            ][:1]
        wanted = [str(parse(n)) for n in (*own_names, *names)]
        if not wanted:
            raise Invalid(f"{archive.name} names no image; give a name")
        config, diff_ids = _config(config_bytes, len(layers))
        for diff_id, stream in zip(diff_ids, layers, strict=True):
            _unpack_layer(store, diff_id, stream)
    store.tag(wanted, _digest(config_bytes), diff_ids, config)
    return wanted


def _blob(digest: Any) -> str:
    """Where an OCI layout keeps it."""
    return "blobs/" + _checked_digest(digest).replace(":", "/")


class Puller:
    """One image from one registry."""

    def __init__(self, store: ImageStore, insecure: Sequence[str], auth: dict[str, str]) -> None:
        self._store = store
        self._insecure = insecure
        self._auth = auth
        self._bearer = ""

    def pull(self, name: ImageName) -> list[str]:
        manifest = self._manifest(name, name.digest or name.tag)
        if "manifests" in manifest:
            manifest = self._manifest(name, _choose(manifest["manifests"])["digest"])
        if "config" not in manifest:
            raise Invalid(f"{name}: manifests of schema 1 are not supported")
        config_digest = _checked_digest(manifest["config"]["digest"])
        config_bytes = self._get(name, f"blobs/{config_digest}").read(MAX_MANIFEST + 1)
        if _digest(config_bytes) != config_digest:
            raise Invalid(f"{name}: the configuration does not have its digest")
        config, diff_ids = _config(config_bytes, len(manifest["layers"]))
        for diff_id, item in zip(diff_ids, manifest["layers"], strict=True):
            if self._store.layer(diff_id).is_dir():
                continue
            if "zstd" in item.get("mediaType", ""):
                raise Invalid(f"{name}: layers compressed with zstd are not supported; push it with gzip layers")
            _unpack_layer(self._store, diff_id, self._get(name, f"blobs/{_checked_digest(item['digest'])}"))
        self._store.tag([str(name)], config_digest, diff_ids, config)
        return [str(name)]

    def _manifest(self, name: ImageName, reference: str) -> dict[str, Any]:
        body = self._get(name, f"manifests/{reference}").read(MAX_MANIFEST + 1)
        if len(body) > MAX_MANIFEST:
            raise Invalid(f"{name}: manifest of more than {MAX_MANIFEST} bytes")
        if reference.startswith("sha256:") and _digest(body) != reference:
            raise Invalid(f"{name}: the manifest does not have its digest")
        return _object(body, f"{name}: the manifest")

    def _get(self, name: ImageName, what: str) -> http.client.HTTPResponse:
        registry = "registry-1.docker.io" if name.registry == "docker.io" else name.registry
        scheme = "http" if self._plain(registry) else "https"
        url = f"{scheme}://{registry}/v2/{name.repository}/{what}"
        basic = self._auth.get(name.registry, "")
        response = self._open(url, registry, basic)
        if response.status == 401 and not self._bearer:
            self._authenticate(response.getheader("www-authenticate", ""), name)
            response = self._open(url, registry, basic)
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

    def _open(self, url: str, registry: str, basic: str) -> http.client.HTTPResponse:
        """Follows redirects; credentials go to the registry alone."""
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
            connection = kind(parts.netloc, timeout=_PATIENCE)
            try:
                connection.request("GET", parts.path + (f"?{parts.query}" if parts.query else ""), headers=headers)
                response = connection.getresponse()
            except OSError as exc:
                raise Invalid(f"cannot reach the registry {parts.netloc}: {exc}") from exc
            if response.status not in (301, 302, 303, 307, 308):
                return response
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
        connection = kind(realm.netloc, timeout=_PATIENCE)
        connection.request("GET", f"{realm.path}?{urllib.parse.urlencode(query)}", headers=headers)
        response = connection.getresponse()
        if response.status != 200:
            raise Invalid(f"{name}: the token service {realm.netloc} answered {response.status} (imagePullSecrets)")
        answer = _object(response.read(MAX_MANIFEST), f"{name}: the token")
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str):
            raise Invalid(f"{name}: the token service {realm.netloc} gives no token")
        self._bearer = token


class _Hashing(io.RawIOBase):
    """Passes a stream on and computes its SHA-256."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self.sha256.update(data)
        return len(data)


def _unpack_layer(store: ImageStore, diff_id: str, stream: IO[bytes]) -> None:
    """The diff id is the digest of the uncompressed tar, so it vouches for what is unpacked, however it was compressed."""
    target = store.layer(_checked_digest(diff_id))
    if target.is_dir():
        return
    buffered = io.BufferedReader(stream, 256 * 1024) if isinstance(stream, io.RawIOBase) else stream
    head = buffered.peek(4)[:4] if isinstance(buffered, io.BufferedReader) else b""
    if not head:
        first = buffered.read(4)
        buffered, head = io.BufferedReader(_Chained(first, buffered), 256 * 1024), first
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        raise Invalid("layers compressed with zstd are not supported; push the image with gzip layers")
    plain: IO[bytes] = gzip.GzipFile(fileobj=buffered) if head.startswith(b"\x1f\x8b") else buffered  # type: ignore[assignment]
    hashing = _Hashing(plain)
    temporary = Path(tempfile.mkdtemp(prefix="new-", dir=store.layers))
    try:
        unpack(io.BufferedReader(hashing, 256 * 1024), temporary, max_bytes=MAX_LAYER)
        while hashing.read(256 * 1024):  # the padding after the end of the archive counts too
            pass
        if f"sha256:{hashing.sha256.hexdigest()}" != diff_id:
            raise Invalid(f"layer {diff_id} does not have its digest")
        os.chmod(temporary, 0o755)
        _sync(temporary)  # before the name says that it is whole: the power may go at any moment
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _sync(directory: Path) -> None:
    """The file system that it is on, and no other."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd) != 0:
            raise OSError(ctypes.get_errno(), f"cannot write {directory} to its disk")
    finally:
        os.close(fd)


class _Chained(io.RawIOBase):
    """What was read already, then the rest."""

    def __init__(self, first: bytes, rest: IO[bytes]) -> None:
        self._first = first
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data, self._first = (self._first[: len(buffer)], self._first[len(buffer) :]) if self._first else (b"", b"")
        if not data:
            data = self._rest.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _config(data: bytes, layers: int) -> tuple[dict[str, Any], list[str]]:
    config = json.loads(data)
    diff_ids = config["rootfs"]["diff_ids"]
    if len(diff_ids) != layers or layers > MAX_LAYERS:
        raise Invalid(f"{layers} layers with {len(diff_ids)} digests; at most {MAX_LAYERS} are possible")
    return config.get("config") or {}, [_checked_digest(d) for d in diff_ids]


def _choose(manifests: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The manifest for this machine."""
    architecture = _ARCHITECTURES.get(os.uname().machine, os.uname().machine)
    for manifest in manifests:
        platform = manifest.get("platform")
        if platform is None or (
            platform.get("architecture") == architecture and platform.get("os", "linux") == "linux"
        ):
            return manifest
    raise Invalid(f"the image is not made for linux/{architecture}")


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as exc:
        raise Invalid(f"{what} is not JSON") from exc
    if not isinstance(value, dict):
        raise Invalid(f"{what} is not an object")
    return value


def _checked_digest(digest: Any) -> str:
    if not isinstance(digest, str) or not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise Invalid(f"{digest!r:.80} is not a digest")
    return digest


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


if __name__ == "__main__":
    sys.exit(main())
