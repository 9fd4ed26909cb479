"""Control groups of the machine: they are not namespaced, so those of a test are found by their names, and whoever made them removes them."""

from __future__ import annotations

import contextlib
import fnmatch
import os
from pathlib import Path

_ROOT = "/sys/fs/cgroup"


def find(*names: str) -> list[Path]:
    """Groups in every hierarchy whose path ends in these names, which are patterns of fnmatch: "*" stands for levels, too. Other groups may come and go meanwhile: a glob
    would end with the first that does."""
    wanted = "*/" + "/".join(names)
    return [Path(directory) for directory, _, _ in os.walk(_ROOT) if fnmatch.fnmatch(directory, wanted)]


def remove(name: str) -> None:
    """Those of that name, with all that is below; not those in which something still runs."""
    for group in find(name):
        for directory, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
