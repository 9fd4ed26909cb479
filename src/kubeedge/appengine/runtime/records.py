"""What the embedded runtime knows of its pods, and the files that it takes that up from after a restart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kubeedge.kit.dataclasses import asdict, dataclass, field


@dataclass(slots=True)
class Run:
    """The newest run of a container."""

    name: str
    attempt: int
    id: str
    pid: int
    image: str
    image_id: str
    started_at: float
    boot: str
    stop_signal: str
    finished_at: float = 0.0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    layers: Sequence[str] | None = (
        None  # ids of what its root file system is mounted from; None: of an agent that did not say
    )
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False
    shares_processes: bool = False  # its PID namespace is not its own: processes of it may outlive its first one
    user: dict[str, Any] | None = None  # base.User; None: of an agent that did not say
    resources: dict[str, Any] | None = None  # api.pod.Resources


@dataclass(slots=True)
class Sandbox:
    """What pod.json holds of a pod, and its newest runs. `boot` is the kernel's boot id when it was made."""

    uid: str
    namespace: str
    name: str
    ip: str
    host_network: bool
    boot: str
    ports: list[dict[str, Any]] = field(default_factory=list)  # of the node that lead to it, as CNI has them
    handler: str = ""  # of its RuntimeClass
    group: str = ""  # its control group; "": of an agent that had no classes of them
    ipv6: str = ""
    runs: dict[str, Run] = field(default_factory=dict)


def load(directory: Path) -> Sandbox | None:
    """The sandbox recorded in a pod's directory; None when it cannot be read."""
    try:
        sandbox = Sandbox(**json.loads((directory / "pod.json").read_bytes()))
        for file in (directory / "runs").glob("*.json"):
            run = Run(**json.loads(file.read_bytes()))
            sandbox.runs[run.name] = run
    except (OSError, ValueError, TypeError):
        return None
    return sandbox


def run_ids(directory: Path) -> list[str]:
    """Of a pod's directory, also when the rest of it cannot be read."""
    ids = []
    for file in (directory / "runs").glob("*.json") if directory.is_dir() else ():
        try:
            ids.append(str(json.loads(file.read_bytes())["id"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return ids


def save_sandbox(directory: Path, sandbox: Sandbox) -> None:
    """Replaces pod.json in the pod's directory; runs have files of their own. Raises OSError."""
    without = ("runs",) if sandbox.ipv6 else ("runs", "ipv6")  # an earlier version of the agent reads no other keys
    _save(directory / "pod.json", {key: value for key, value in asdict(sandbox).items() if key not in without})


def save_run(directory: Path, run: Run) -> None:
    """Replaces the container's file in the pod's directory. Raises OSError."""
    _save(directory / "runs" / f"{run.name}.json", asdict(run))


def _save(path: Path, values: dict[str, Any]) -> None:
    """Whole or not at all. Not synced: after a power cut the processes that it names are gone as well."""
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(values))
    temporary.replace(path)
