"""A helper process: reads a kubeconfig, or the account of its own pod, by the package kubernetes, and prints an Access as JSON.

    python -m kubeedge_cloud.clusters.loading PATH | in-cluster

The package costs 21 to 31 MB (with aiohttp), runs plugins synchronously without a limit of time, and writes keys to temporary files. Here it
costs nothing while nothing changes; plugins can be ended with the process; the files are gone with it. (docs/adr/0037)
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from kubeedge_cloud.clusters.core import IN_CLUSTER


class _Said(logging.Handler):
    """The package logs why a plugin failed, and goes on without credentials."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def load(source: str, temporary: Path) -> dict[str, Any]:
    """The fields of an Access. Raises ValueError, OSError and what the package raises."""
    found = _own_account() if source == IN_CLUSTER else _kubeconfig(Path(source), temporary)
    if not found["proxy"]:
        found["proxy"] = _proxy(found["server"])
    return found


def _own_account() -> dict[str, Any]:
    from kubernetes.client import Configuration
    from kubernetes.config import incluster_config as package

    token, ca = package.SERVICE_TOKEN_FILENAME, package.SERVICE_CERT_FILENAME
    configuration = Configuration()
    loader: Any = package.InClusterConfigLoader
    loader(token, ca, try_refresh_token=False).load_and_set(configuration)
    return {
        "server": configuration.host,
        "ca": Path(ca).read_text(),
        "authorization": f"Bearer {Path(token).read_text().strip()}",
        "proxy": "",
        "files": [token, ca],
    }


def _kubeconfig(path: Path, temporary: Path) -> dict[str, Any]:
    from kubernetes.client import Configuration
    from kubernetes.config.kube_config import KubeConfigLoader

    said = _Said()
    logging.getLogger().addHandler(said)
    content = yaml.safe_load(path.read_bytes())
    if not isinstance(content, dict):
        raise ValueError("it is not a kubeconfig")
    package: Any = KubeConfigLoader
    loader = package(content, config_base_path=str(path.parent.resolve()), temp_file_path=str(temporary))
    loader.load_and_set(Configuration())
    context = _named(content, "contexts", "context", content["current-context"])
    cluster = _named(content, "clusters", "cluster", context.get("cluster"))
    user = _named(content, "users", "user", context.get("user"))
    if cluster.get("insecure-skip-tls-verify"):
        raise ValueError("insecure-skip-tls-verify is not supported: name the certificate-authority")
    token, certificate = getattr(loader, "token", None), getattr(loader, "cert_file", None)
    if said.messages and not token and not certificate:
        raise ValueError(said.messages[-1])
    expires = getattr(loader, "expiry", None)
    return {
        "server": loader.host,
        "ca": _text(getattr(loader, "ssl_ca_cert", None)),
        "server_name": getattr(loader, "tls_server_name", "") or "",
        "proxy": getattr(loader, "proxy", "") or "",
        "authorization": token.strip() if token else "",
        "certificate": _text(certificate),
        "key": _text(getattr(loader, "key_file", None)),
        "expires": expires.timestamp() if expires else None,
        "files": [str(path), *_named_files(path.parent, cluster, "certificate-authority"),
                  *_named_files(path.parent, user, "client-certificate", "client-key", "tokenFile")],
    }  # fmt: skip


def _named(content: dict[str, Any], part: str, kind: str, name: Any) -> dict[str, Any]:
    """One of the three lists of a kubeconfig; {} for what is not there, which the package has judged."""
    for entry in content.get(part) or ():
        if entry.get("name") == name:
            return entry.get(kind) or {}
    return {}


def _named_files(base: Path, fields: dict[str, Any], *names: str) -> list[str]:
    return [str(base / fields[name]) for name in names if fields.get(name)]


def _text(path: str | None) -> str:
    return Path(path).read_text() if path else ""


def _proxy(server: str) -> str:
    """The URL of the proxy for a server, from HTTPS_PROXY and NO_PROXY; "" when there is none."""
    parts, known = urlsplit(server), urllib.request.getproxies()
    if urllib.request.proxy_bypass(parts.netloc):
        return ""
    return str(known.get(parts.scheme, ""))


def main() -> int:
    """0, or 1 with the reason on standard error."""
    os.umask(0o077)
    try:
        with tempfile.TemporaryDirectory(prefix="kubeedge-") as temporary:
            print(json.dumps(load(sys.argv[1], Path(temporary))))
    except ModuleNotFoundError as exc:
        print(
            f"a cluster of one's own needs the package {exc.name}: pip install kubeedge-cloud[kubernetes]",
            file=sys.stderr,
        )
        return 1
    except Exception as exc:
        print(f"{exc}"[:500] or type(exc).__name__, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
