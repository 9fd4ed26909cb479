"""Where tests keep what is expensive to fetch or build: outside the checkout, so that a fresh one has it."""

from __future__ import annotations

import os
from pathlib import Path


def directory() -> Path:
    """$KUBEEDGE_CACHE, else ~/.cache/kubeedge. It may not exist yet."""
    return Path(os.environ.get("KUBEEDGE_CACHE") or Path.home() / ".cache/kubeedge")
