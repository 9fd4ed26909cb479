"""python -m bench.pods.client CONFIG: what the bench asks of the API server, in the host of the cloud. stdout: one JSON object.

A process of its own, whose start is not in the figures; time is the clock of the machine, which the lines of containers' logs have as well.
"""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import time
from pathlib import Path
from typing import Any

from bench.budgets.site import CLOUD, pod
from bench.demo.scenario import started_after

_PODS = "/api/v1/namespaces/default/pods"
_PATIENCE = 600.0  # seconds
_LOOK = 0.1  # seconds: a look takes processor time from what is measured; when a process began is in its log


class Client:
    """One connection to the API. Raises RuntimeError with what the server has said."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._context = ssl.create_default_context(cafile=config["ca"])
        self._context.load_cert_chain(config["cert"], config["key"])
        self._connection = http.client.HTTPSConnection(CLOUD, 6443, timeout=_PATIENCE, context=self._context)
        self._logs = Path(config["logs"])

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """The object of the answer."""
        self._connection.request(
            method, path, json.dumps(body) if body is not None else None, {"content-type": "application/json"}
        )
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {text.decode(errors='replace'):.300}")
        return json.loads(text)

    def until(self, condition: Any, what: str) -> None:
        """Returns as soon as it holds."""
        end = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > end:
                raise RuntimeError(f"{what}: not within {_PATIENCE:g} s")
            time.sleep(_LOOK)

    def create(self, names: list[str]) -> float:
        """Bound to the node from the first moment; time.time() before the first request."""
        began = time.time()
        for name in names:
            self.ask("POST", _PODS, pod(name))
        return began

    def ran(self, names: list[str], since: float) -> list[float]:
        """Seconds from `since` to the first line of each pod; returns when all have said theirs."""
        seen: dict[str, float] = {}

        def all_have() -> bool:
            for name in names:
                if name not in seen and (at := started_after(self._logs, f"default_{name}_", since)):
                    seen[name] = at - since
            return len(seen) == len(names)

        self.until(all_have, f"{len(names)} pods")
        return sorted(seen.values())

    def phases(self) -> list[str]:
        """Of all pods of the namespace."""
        return [item["status"].get("phase", "") for item in self.ask("GET", _PODS)["items"]]

    def delete(self, names: list[str]) -> None:
        """Returns when they are gone."""
        for name in names:
            self.ask("DELETE", f"{_PODS}/{name}", {"gracePeriodSeconds": 0})
        self.until(
            lambda: not {item["metadata"]["name"] for item in self.ask("GET", _PODS)["items"]} & {*names}, "no pods"
        )


def one_by_one(client: Client, count: int) -> dict[str, Any]:
    """Each pod alone: from the request that binds it to its process."""
    seconds = []
    for number in range(count):
        names = [f"one{number}"]
        since = client.create(names)
        seconds += client.ran(names, since)
        client.delete(names)
    return {"seconds": seconds}


def at_once(client: Client, count: int) -> dict[str, Any]:
    """Until the last process runs, and until the API calls all of them Running."""
    names = [f"many{number}" for number in range(count)]
    before = client.phases().count("Running")
    since = client.create(names)
    last = client.ran(names, since)[-1]
    client.until(lambda: client.phases().count("Running") == before + count, "all Running")
    running = time.time() - since
    client.delete(names)
    return {"processes": last, "running": running}


def keep(client: Client, count: int) -> dict[str, Any]:
    """So many pods, which stay."""
    there = {item["metadata"]["name"] for item in client.ask("GET", _PODS)["items"]}
    names = [name for name in (f"p{number}" for number in range(count)) if name not in there]
    client.create(names)
    client.until(lambda: client.phases().count("Running") == count, f"{count} pods Running")
    return {}


def execs(client: Client, count: int) -> dict[str, Any]:
    """Seconds of `true` in the pod p0, one after another."""
    from websockets.sync.client import connect
    from websockets.typing import Subprotocol

    url = f"wss://{CLOUD}:6443{_PODS}/p0/exec?container=c&stdin=0&stdout=1&command=true"
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        protocol = Subprotocol("v5.channel.k8s.io")
        with connect(url, ssl=client._context, subprotocols=[protocol], compression=None) as running:
            said = list(running)
        seconds.append(time.perf_counter() - began)
        if b"Success" not in said[-1]:
            raise RuntimeError(f"exec: {said!r:.300}")
    return {"seconds": seconds}


_STEPS = {step.__name__: step for step in (one_by_one, at_once, keep, execs)}


def main(config: dict[str, Any]) -> None:
    """Prints what the step has seen."""
    print(json.dumps(_STEPS[config["step"]](Client(config), config["count"])))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
