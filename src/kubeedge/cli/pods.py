"""`kubeedge pods`: the pods of this node, in the columns of `kubectl get pods`."""

from __future__ import annotations

import argparse
import time
from typing import Any

from kubeedge.apiserver.pod_columns import pod_cells
from kubeedge.cli import local_kubelet
from kubeedge.cli.show import as_json, table

_COLUMNS = ("NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE")


def run(options: argparse.Namespace) -> int:
    """Exit status 0. Raises CommandError."""
    found = local_kubelet.pods(options)
    match options.output:
        case "json":
            one = options.pod and len(found) == 1
            print(as_json(found[0] if one else {"kind": "PodList", "apiVersion": "v1", "items": found}))
        case "name":
            print("\n".join(f"pod/{p['metadata']['name']}" for p in found))
        case "wide":
            print(table((*_COLUMNS, "IP", "NODE", "IMAGES"), [[*_row(p)[:8], _images(p)] for p in found]))
        case _:
            print(table(_COLUMNS, [_row(p)[:6] for p in found]))
    return 0


def _row(pod: dict[str, Any]) -> list[Any]:
    """The node does not know when a pod was made; it knows since when it has it."""
    metadata = {**pod["metadata"], "creationTimestamp": (pod.get("status") or {}).get("startTime")}
    name, ready, status, restarts, age, ip, node, *_ = pod_cells({**pod, "metadata": metadata}, time.time())
    return [metadata["namespace"], name, ready, status or "Pending", restarts, age, ip, node]


def _images(pod: dict[str, Any]) -> str:
    return ",".join(str(c.get("image")) for c in (pod.get("spec") or {}).get("containers") or ())
