"""Credentials of a registry that are not the pod's: the node's own config.json, and credential provider plugins as the kubelet runs them.

A provider (kubelet.config.k8s.io/v1, CredentialProviderConfig) is a program in one directory. It gets a CredentialProviderRequest on its
standard input and answers with a CredentialProviderResponse (credentialprovider.kubelet.k8s.io/v1), both JSON. It runs in the helper process of
a pull, without a shell, and is asked anew for each pull: what it may be cached for does not outlive that process.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kubeedge.api import registry_auth
from kubeedge.appengine.images.names import ImageName
from kubeedge.errors import Invalid

API_VERSION = "credentialprovider.kubelet.k8s.io/v1"
_TIMEOUT = 60.0  # seconds; the kubelet's limit
_MAX_ANSWER = 1024 * 1024  # bytes


def of_files(paths: Sequence[str]) -> dict[str, str]:
    """Of those that are there, the first that knows a key; one that is damaged is passed over."""
    found: dict[str, str] = {}
    for path in paths:
        try:
            with open(path, "rb") as file:
                document = json.loads(file.read(registry_auth.MAX_CONFIG + 1))
        except (OSError, ValueError, RecursionError):
            continue
        found = {**registry_auth.credentials(document), **found}
    return found


def of_providers(config: str, directory: str, name: ImageName) -> dict[str, str]:
    """What the providers of a configuration file say for an image. Raises Invalid when it cannot be read, or a provider fails."""
    found: dict[str, str] = {}
    for provider in _providers(Path(config)):
        patterns = provider.get("matchImages") or ()
        if any(
            registry_auth.matches(registry_auth.normal_key(str(p)), name.registry, name.repository) for p in patterns
        ):
            found = {**_ask(provider, Path(directory), name), **found}
    return found


def _providers(path: Path) -> list[Mapping[str, Any]]:
    import yaml  # JSON is YAML, too

    try:
        document = yaml.safe_load(path.read_bytes()[: registry_auth.MAX_CONFIG])
    except (OSError, yaml.YAMLError, RecursionError) as exc:
        raise Invalid(f"the configuration of the credential providers cannot be read: {path}: {exc}") from exc
    providers = document.get("providers") if isinstance(document, dict) else None
    if not isinstance(providers, list) or not all(isinstance(p, dict) for p in providers):
        raise Invalid(f"{path} is no CredentialProviderConfig: it has no list of providers")
    return providers


def _ask(provider: Mapping[str, Any], directory: Path, name: ImageName) -> dict[str, str]:
    """Raises Invalid; what the program wrote to its standard error is not repeated, since it may hold a secret."""
    program = str(provider.get("name", ""))
    if not program or "/" in program or program in (".", ".."):
        raise Invalid(f"{program!r:.80} is not the name of a credential provider")
    if provider.get("apiVersion", API_VERSION) != API_VERSION:
        raise Invalid(f"credential provider {program}: {provider['apiVersion']!r:.80} instead of {API_VERSION}")
    request = {"kind": "CredentialProviderRequest", "apiVersion": API_VERSION, "image": str(name)}
    variables = {str(e.get("name")): str(e.get("value", "")) for e in provider.get("env") or ()}
    try:
        done = subprocess.run(
            [str(directory / program), *(str(a) for a in provider.get("args") or ())],
            input=json.dumps(request).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **variables},
            timeout=_TIMEOUT,
        )
    except subprocess.TimeoutExpired as exc:
        raise Invalid(f"credential provider {program} gave no answer within {_TIMEOUT:g} s") from exc
    except OSError as exc:
        raise Invalid(f"credential provider {program} cannot be run: {exc}") from exc
    if done.returncode:
        raise Invalid(f"credential provider {program} ended with status {done.returncode}")
    return _answer(program, done.stdout)


def _answer(program: str, data: bytes) -> dict[str, str]:
    try:
        answer = json.loads(data) if len(data) <= _MAX_ANSWER else None
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or answer.get("kind") != "CredentialProviderResponse":
        raise Invalid(f"credential provider {program} answered with no CredentialProviderResponse")
    found = {}
    auth = answer.get("auth")
    for key, entry in auth.items() if isinstance(auth, dict) else ():
        if isinstance(entry, dict) and (entry.get("username") or entry.get("password")):
            both = f"{entry.get('username', '')}:{entry.get('password', '')}"
            found[registry_auth.normal_key(str(key))] = base64.b64encode(both.encode()).decode()
    return found
