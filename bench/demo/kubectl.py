"""kubectl inside the cloud host: one-shot calls, and one long watch whose events carry the time at which they came."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.report import ROOT
from tests.kit.topology import Host

KUBECTL = ROOT / "build/debian/usr/bin/kubectl"


@dataclass(slots=True)
class Kubectl:
    host: Host
    kubeconfig: Path
    home: Path  # where kubectl keeps its caches
    program: Path = KUBECTL

    def argv(self, *args: str) -> list[str]:
        return ["env", f"HOME={self.home}", str(self.program), f"--kubeconfig={self.kubeconfig}", *args]

    def __call__(self, *args: str, input: str | None = None, check: bool = True, timeout: float = 60) -> str:
        return self.host.run(*self.argv(*args), input=input, check=check, timeout=timeout)

    def json(self, *args: str) -> Any:
        return json.loads(self(*args, "-o", "json"))

    def watch(self, *args: str) -> Watch:
        return Watch(self.host.command(*self.argv("get", *args, "-w", "-o", "json")))


@dataclass(slots=True)
class Seen:
    at: float  # time.monotonic()
    object: dict[str, Any]


@dataclass(slots=True)
class Watch:
    """`kubectl get ... -w -o json`: the newest object of each name, and when it came."""

    argv: list[str]
    newest: dict[str, Seen] = field(default_factory=dict)
    _process: subprocess.Popen[str] = field(init=False)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self._process = subprocess.Popen(
            self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        threading.Thread(target=self._read, name="kubectl watch", daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        decoder, text = json.JSONDecoder(), ""
        for line in self._process.stdout:
            text += line
            if not line.startswith("}"):
                continue
            obj, _ = decoder.raw_decode(text.lstrip())
            text = ""
            with self._changed:
                self.newest[obj["metadata"]["name"]] = Seen(time.monotonic(), obj)
                self._changed.notify_all()

    def until(self, name: str, condition: Callable[[dict[str, Any]], bool], *, timeout: float, what: str) -> float:
        """When (time.monotonic) the object that satisfies the condition came. Raises AssertionError after timeout."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not ((seen := self.newest.get(name)) and condition(seen.object)):
                if not self._changed.wait(deadline - time.monotonic()):
                    raise AssertionError(f"{what}: not within {timeout:g} s")
            return seen.at

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def ready(obj: dict[str, Any]) -> bool:
    """The object's Ready condition is True."""
    conditions = obj.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
