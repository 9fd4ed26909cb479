"""The JSON documents of an image: configuration, manifests, digests. They are untrusted input, so everything in them is checked here."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from kubeedge.appengine.images.layers import MAX_LAYERS
from kubeedge.errors import Invalid

MAX_MANIFEST = 4 * 1024 * 1024  # bytes, as registries limit it
_MAX_CONFIG = 256 * 1024  # bytes of what is kept of a configuration; each start of a container reads it
#: machine -> architecture, and the variants that it runs, the best first (image-index.md; an index need not name one)
_PLATFORMS: Mapping[str, tuple[str, Sequence[str]]] = {
    "x86_64": ("amd64", ("", "v1")),
    "aarch64": ("arm64", ("v8", "")),
    "armv8l": ("arm", ("v8", "v7", "", "v6", "v5")),
    "armv7l": ("arm", ("v7", "", "v6", "v5")),
    "armv6l": ("arm", ("v6", "v5", "")),
    "armv5tel": ("arm", ("v5",)),
    "i686": ("386", ("",)),
}


def config(data: bytes, layers: int) -> tuple[dict[str, Any], list[str]]:
    """What the runtime needs of a configuration, and the digests of its layers. Raises Invalid."""
    document = object_of(data, "the image's configuration")
    rootfs = document.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or len(diff_ids) != layers or not 0 < layers <= MAX_LAYERS:
        known = len(diff_ids) if isinstance(diff_ids, list) else "no"
        raise Invalid(f"{layers} layers with {known} digests; 1 to {MAX_LAYERS} are possible")
    return _runtime_part(document.get("config") or {}), [checked_digest(d) for d in diff_ids]


def _runtime_part(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Invalid("the image's configuration is not an object")
    kept: dict[str, Any] = {}
    for name in ("Entrypoint", "Cmd", "Env"):
        kept[name] = _texts(name, value.get(name) or [])
    for name in ("WorkingDir", "User", "StopSignal"):
        kept[name] = _texts(name, [str(value.get(name) or "")])[0]
    volumes = value.get("Volumes") or {}
    if not isinstance(volumes, dict):
        raise Invalid("the image's Volumes is not an object")
    kept["Volumes"] = _texts("Volumes", list(volumes))
    if len(json.dumps(kept)) > _MAX_CONFIG:
        raise Invalid(f"the image's configuration has more than {_MAX_CONFIG} bytes")
    return kept


def _texts(name: str, values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(v, str) and "\0" not in v for v in values):
        raise Invalid(f"the image's {name} is not a list of strings")
    return values


def choose(manifests: Any, machine: str = "") -> dict[str, Any]:
    """The manifest for a machine (as uname names it; "" is this one): the best variant that it can run. Raises Invalid."""
    machine = machine or os.uname().machine
    architecture, variants = _PLATFORMS.get(machine, (machine, ("",)))
    if not isinstance(manifests, list) or not all(isinstance(m, dict) for m in manifests):
        raise Invalid("the image's index has no list of manifests")
    found: list[tuple[int, dict[str, Any]]] = []
    for manifest in manifests:
        platform = manifest.get("platform")
        if platform is None:
            found.append((len(variants), manifest))
        elif platform.get("architecture") == architecture and platform.get("os", "linux") == "linux":
            variant = str(platform.get("variant") or "")
            if variant in variants:
                found.append((variants.index(variant), manifest))
    if not found:
        raise Invalid(f"the image is not made for linux/{architecture}{'/' + variants[0] if variants[0] else ''}")
    return min(found, key=lambda pair: pair[0])[1]


def architecture() -> str:
    """The architecture of this machine, as image indexes name it."""
    machine = os.uname().machine
    return _PLATFORMS.get(machine, (machine, ()))[0]


def object_of(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object in `data`. Raises Invalid, with `what` as the name of the document."""
    value = json_of(data, what)
    if not isinstance(value, dict):
        raise Invalid(f"{what} is not an object")
    return value


def json_of(data: bytes, what: str) -> Any:
    """The JSON value in `data`. Raises Invalid, with `what` as the name of the document."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise Invalid(f"{what} is not JSON") from exc


def checked_digest(digest: Any) -> str:
    """A digest as the OCI image specification writes it, "sha256:" and 64 hexadecimal digits in lower case. Raises Invalid."""
    if not isinstance(digest, str) or not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise Invalid(f"{digest!r:.80} is not a digest")
    return digest


def digest(data: bytes) -> str:
    """The digest of some bytes, "sha256:" and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
