"""Credentials of image registries as Docker's config.json has them, and which of them are meant for an image. Pure.

{"auths": {"registry.example:5000/team": {"auth": base64 of "user:password"}}}

A key names a registry, with "*" for any one label of its name, and may go on with the beginning of a repository; the kubelet reads it so.
"""

from __future__ import annotations

import base64
import fnmatch
from collections.abc import Mapping
from typing import Any

MAX_CONFIG = 1024 * 1024  # bytes of such a file; a Secret has no more
_DOCKER_HUB = ("index.docker.io", "registry-1.docker.io", "registry.hub.docker.com")


def credentials(document: Any) -> dict[str, str]:
    """Key -> base64 of "user:password", of a config.json or, without "auths", a .dockercfg. What is malformed is passed over."""
    entries = document.get("auths", document) if isinstance(document, Mapping) else None
    found: dict[str, str] = {}
    for key, entry in entries.items() if isinstance(entries, Mapping) else ():
        if isinstance(entry, Mapping) and (text := _basic(entry)):
            found[normal_key(str(key))] = text
    return found


def _basic(entry: Mapping[str, Any]) -> str:
    if entry.get("auth"):
        return str(entry["auth"])
    user, password = entry.get("username"), entry.get("password")
    return base64.b64encode(f"{user}:{password}".encode()).decode() if user and password else ""


def normal_key(text: str) -> str:
    """A registry as image names have it: docker login writes "https://index.docker.io/v1/" for docker.io."""
    host, _, path = text.removeprefix("https://").removeprefix("http://").strip("/").partition("/")
    if path in ("v1", "v2"):
        path = ""
    host = "docker.io" if host in _DOCKER_HUB else host
    return f"{host}/{path}" if path else host


def matching(auth: Mapping[str, str], registry: str, repository: str) -> list[str]:
    """Those for an image, the most specific first, each once."""
    keys = sorted((k for k in auth if matches(k, registry, repository)), key=lambda k: (-len(k), k))
    return list(dict.fromkeys(auth[k] for k in keys))


def matches(key: str, registry: str, repository: str) -> bool:
    """Whether a key of such a file, or of matchImages of a credential provider, is meant for an image."""
    host, _, path = key.partition("/")
    if path and repository != path and not repository.startswith(path.rstrip("/") + "/"):
        return False
    name, _, port = host.partition(":")
    of_name, _, of_port = registry.partition(":")
    labels, of_labels = name.split("."), of_name.split(".")
    if port != of_port or len(labels) != len(of_labels):
        return False
    return all(fnmatch.fnmatchcase(mine, pattern) for pattern, mine in zip(labels, of_labels, strict=True))
