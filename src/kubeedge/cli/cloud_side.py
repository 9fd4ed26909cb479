"""The seam to the cloud side, which is a distribution of its own: the one module of it that the command line calls, and what that must have.

This distribution neither depends on the other nor imports it; where it is installed, it is found under this name.
"""

from __future__ import annotations

import argparse
import importlib
from typing import TYPE_CHECKING, Protocol, cast

from kubeedge.cli.errors import CommandError

if TYPE_CHECKING:
    from kubeedge.config.cloud import CloudConfig

_PACKAGE = "kubeedge_cloud"
_COMMANDS = f"{_PACKAGE}.commands"


class CloudSide(Protocol):
    """What `kubeedge_cloud.commands` offers. Each returns the exit status of the command."""

    def serve(self, config: CloudConfig, *, new_authority: bool = False) -> int:
        """`kubeedge cloud`: a cloud process in the foreground."""
        ...

    def administer(self, options: argparse.Namespace) -> int:
        """`init`, `upgrade`, `manifest`, `reset cloud`, `gettoken`, `debug` for a cluster. Raises KubeEdgeError."""
        ...

    def vm_routes(self, options: argparse.Namespace) -> int:
        """`kubeedge vm-routes` on a machine of a cluster, in the foreground."""
        ...


def load() -> CloudSide:
    """The cloud side of this machine. Raises CommandError when it is not installed."""
    try:  # a module that is found by its name has no type of its own
        return cast(CloudSide, importlib.import_module(_COMMANDS))
    except ModuleNotFoundError as exc:
        if exc.name not in (_PACKAGE, _COMMANDS):
            raise
        raise CommandError("the cloud side is not installed", "pip install kubeedge-cloud") from exc
