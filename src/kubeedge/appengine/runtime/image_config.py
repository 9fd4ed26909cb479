"""What an image says of itself (opencontainers/image-spec, config.md). Apart from the rest of the runtime: helper processes read it, which must be small."""

from __future__ import annotations

from collections.abc import Sequence

from kubeedge.kit.dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """How a container of it is started, where the pod does not say otherwise."""

    entrypoint: Sequence[str]
    command: Sequence[str]
    env: Sequence[str]
    working_dir: str
    user: str
    stop_signal: str = "TERM"
    volumes: Sequence[str] = ()  # paths in the container
