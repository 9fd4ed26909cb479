"""Where pods of this node find the Kubernetes API: the node's own, which passes on what the cloud can answer (kubeedge.metaserver)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from kubeedge.kit.dataclasses import dataclass

ROOT = "kube-root-ca.crt"  # ConfigMap of each namespace, whose ca.crt clients in pods trust
CERTIFICATE = "ca.crt"
_MAX = 64 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class NodeApi:
    """`certificate` is a file in PEM, which may come later than the first pod."""

    host: str
    port: int
    certificate: Path

    def variables(self) -> Mapping[str, str]:
        """What clients in a pod look for."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return {
            "KUBERNETES_SERVICE_HOST": self.host,
            "KUBERNETES_SERVICE_PORT": str(self.port),
            "KUBERNETES_SERVICE_PORT_HTTPS": str(self.port),
            "KUBERNETES_PORT": f"tcp://{host}:{self.port}",
        }

    def trusted(self, root: bytes) -> bytes:
        """The cluster's authority and this node's certificate, one behind the other."""
        with contextlib.suppress(OSError), self.certificate.open("rb") as file:
            own = file.read(_MAX)
            return root.rstrip() + b"\n" + own if own not in root else root
        return root
