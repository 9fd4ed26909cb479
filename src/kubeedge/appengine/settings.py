"""What AppEngine is told by the agent's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AppEngineSettings:
    node: str
    address: str  # on the overlay
    state: Path
    logs: Path
    max_pods: int = 110
    log_max_bytes: int = 10 * 1024 * 1024

    @property
    def host_ip(self) -> str:
        return self.address.split("/")[0]
