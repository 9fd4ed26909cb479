"""Which container has which devices: one file for all, written before the container starts.

Whoever finds it knows what is taken though no plugin has registered yet, and gives a container that starts again the same devices.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kubeedge.appengine.deviceplugins.core import DeviceEdits
from kubeedge.appengine.runtime.base import DeviceNode
from kubeedge.kit.dataclasses import asdict, dataclass
from kubeedge.pki.files import write_whole


@dataclass(frozen=True, slots=True)
class DeviceAllocation:
    """Devices of one resource for one container."""

    uid: str  # of the pod
    container: str
    resource: str
    ids: tuple[str, ...]
    boot: str  # when the plugin was asked: paths may be others after the machine was started again
    edits: DeviceEdits


class AllocationRecords:
    """Held in memory; changes are durable when a call returns. Blocking."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[tuple[str, str, str], DeviceAllocation] = {}
        self.resources: set[str] = set()  # every one that has been offered here
        self._load()

    def get(self, uid: str, container: str, resource: str) -> DeviceAllocation | None:
        """None: it has none of this resource."""
        return self._found.get((uid, container, resource))

    def __iter__(self) -> Iterator[DeviceAllocation]:
        return iter(list(self._found.values()))

    def keep(self, allocation: DeviceAllocation) -> None:
        """Raises OSError; then it is not kept."""
        key = (allocation.uid, allocation.container, allocation.resource)
        before = self._found.get(key)
        self._found[key] = allocation
        try:
            self._save()
        except OSError:
            if before is None:
                del self._found[key]
            else:
                self._found[key] = before
            raise

    def know(self, resource: str) -> None:
        """A resource that is offered here. Raises OSError."""
        if resource not in self.resources:
            self.resources.add(resource)
            self._save()

    def discard(self, uid: str) -> bool:
        """All of a pod. Whether there was anything. Raises OSError."""
        gone = [key for key in self._found if key[0] == uid]
        for key in gone:
            del self._found[key]
        if gone:
            self._save()
        return bool(gone)

    def _save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        document = {"resources": sorted(self.resources), "allocations": [asdict(one) for one in self._found.values()]}
        write_whole(self._path, json.dumps(document).encode(), mode=0o600)

    def _load(self) -> None:
        """A file that is damaged is as good as none: the pods that run keep what they have, and their next start is a new allocation."""
        try:
            document = json.loads(self._path.read_bytes())
            self.resources = {str(name) for name in document["resources"]}
            for one in document["allocations"]:
                made = _allocation(one)
                self._found[made.uid, made.container, made.resource] = made
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return


def _allocation(one: dict[str, Any]) -> DeviceAllocation:
    edits = one["edits"]
    return DeviceAllocation(
        str(one["uid"]), str(one["container"]), str(one["resource"]), tuple(map(str, one["ids"])), str(one["boot"]),
        DeviceEdits(
            dict(edits["env"]),
            [(str(host), str(inside), bool(read_only)) for host, inside, read_only in edits["mounts"]],
            [DeviceNode(**device) for device in edits["devices"]],
            dict(edits["annotations"]),
            [str(name) for name in edits["cdi"]],
        ),
    )  # fmt: skip
