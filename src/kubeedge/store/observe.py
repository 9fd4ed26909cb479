"""A store's figures for Prometheus: read at each scrape."""

from __future__ import annotations

from pathlib import Path

from kubeedge.kit.metrics import Family, family
from kubeedge.store.model import Store


def families(store: Store) -> list[Family]:
    """Revision, and for SQLite the sizes of its files in bytes."""
    found = [
        family("kubeedge_store_revision", "gauge", "newest revision of the store", float(store.revision)),
        family(
            "kubeedge_store_compacted_revision",
            "gauge",
            "oldest revision whose history is kept",
            float(store.compacted),
        ),
    ]
    path = getattr(store, "path", None)  # of SQLite
    if isinstance(path, Path):
        sizes = [
            ({"file": kind}, float(file.stat().st_size))
            for kind, file in (("store", path), ("log", path.with_name(path.name + "-wal")))
            if file.exists()
        ]
        found.append(family("kubeedge_store_file_bytes", "gauge", "size of the store's files", sizes))
    return found
