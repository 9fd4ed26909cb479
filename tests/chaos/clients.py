"""Clients that write and read while faults are injected: threads, each in the network of one host, with plain HTTPS.

Lives elsewhere: what they record (journal.py), what is checked (checks.py).
"""

from __future__ import annotations

import abc
import contextlib
import http.client
import json
import os
import random
import ssl
import threading
from collections.abc import Sequence
from typing import Any, TypeVar

from tests.chaos.checks import FLIP, TOTAL, fields_of, number
from tests.chaos.journal import Journal, Pods, Readings
from tests.kit.topology import Host, enter

T = TypeVar("T")
TIMEOUT = 3.0  # seconds for one answer


class Lost(Exception):
    """No answer: the request may have been carried out, or not."""


class Api:
    """One client; when a server does not answer, the next one is asked the next time."""

    def __init__(self, servers: Sequence[tuple[str, int]], tls: ssl.SSLContext, *, token: str = "", seed: str) -> None:
        self._servers, self._tls = servers, tls
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._rng = random.Random(seed)
        self._at = self._rng.randrange(len(servers))
        self._connection: http.client.HTTPSConnection | None = None

    def open(self, timeout: float = TIMEOUT) -> http.client.HTTPSConnection:
        host, port = self._servers[self._at]
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=self._tls)

    def leave(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None
        self._at = (self._at + 1) % len(self._servers)

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, Any]:
        """(status, object). Raises Lost."""
        if len(self._servers) > 1 and self._rng.random() < 0.1:
            self.leave()  # both processes are asked, also while both are well
        try:
            if self._connection is None:
                self._connection = self.open()
            data = json.dumps(body) if body is not None else None
            self._connection.request(method, path, data, {**self._headers, "Content-Type": kind})
            answer = self._connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as exc:
            self.leave()
            raise Lost(str(exc)) from exc

    def stream(self, path: str) -> http.client.HTTPResponse:
        """Raises Lost."""
        connection = self.open(timeout=2.0)
        try:
            connection.request("GET", path, headers=self._headers)
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as exc:
            connection.close()
            self._at = (self._at + 1) % len(self._servers)
            raise Lost(str(exc)) from exc
        self._connection, before = connection, self._connection
        if before:
            before.close()
        return answer

    def close(self) -> None:
        if self._connection:
            self._connection.close()


class Worker(threading.Thread, abc.ABC):
    """Does one thing again and again, in the network of its host, until it is stopped."""

    def __init__(self, name: str, host: Host, api: Api, *, pace: float) -> None:
        super().__init__(name=name, daemon=True)
        self.host, self.api, self.pace = host, api, pace
        self.stopping = threading.Event()
        self.broken: BaseException | None = None

    def run(self) -> None:
        try:
            enter(self.host)
            while not self.stopping.is_set():
                with contextlib.suppress(Lost):
                    self.step()
                self.stopping.wait(self.pace)
        except BaseException as exc:
            self.broken = exc
        finally:
            self.api.close()

    @abc.abstractmethod
    def step(self) -> None:
        """One round of its work. May raise Lost."""


class Counter(Worker):
    """Counts a field up. Each write is conditional on the version that was read, so a late one that nobody waits for any more does no harm."""

    def __init__(self, host: Host, api: Api, journal: Journal, path: str, *, tally: bool = False, pace: float) -> None:
        super().__init__(journal.name, host, api, pace=pace)
        self.journal, self.path, self._tally = journal, path, tally

    def step(self) -> None:
        j = self.journal
        status, obj = self.api.ask("GET", self.path)
        if status != 200:
            self._refused(status, obj)
            return
        n = number(obj, j.field)
        if n < (newest := max(j.acknowledged, default=0)):
            j.wrong.append(f"it read {n} after {newest} was acknowledged")
        *place, name = j.field
        fields = {name: str(n + 1), name + FLIP: str((n + 1) % 2)}
        if self._tally:
            fields[TOTAL] = str(int(fields_of(obj, place).get(TOTAL, 0)) + 1)
        patch: dict[str, Any] = fields
        for part in reversed(place):
            patch = {part: patch}
        patch.setdefault("metadata", {})["resourceVersion"] = obj["metadata"]["resourceVersion"]
        j.attempted = max(j.attempted, n + 1)
        try:
            status, obj = self.api.ask("PATCH", self.path, patch, "application/merge-patch+json")
        except Lost:
            j.unknown += 1
            raise
        if status == 200:
            j.acknowledged[n + 1] = int(obj["metadata"]["resourceVersion"])
        else:
            self._refused(status, obj)

    def _refused(self, status: int, obj: Any) -> None:
        self.journal.refused[status] = self.journal.refused.get(status, 0) + 1
        if status in (400, 401, 403, 404, 405, 415, 422):
            self.journal.wrong.append(f"{status}: {obj.get('message') if isinstance(obj, dict) else obj}")


class PodKeeper(Worker):
    """Creates pods on a node, each under a new name, and deletes some of them."""

    def __init__(self, host: Host, api: Api, journal: Pods, node: str, *, seed: str, pace: float) -> None:
        super().__init__(journal.name, host, api, pace=pace)
        self.journal, self.node = journal, node
        self._rng = random.Random(seed)

    def step(self) -> None:
        j = self.journal
        path = "/api/v1/namespaces/default/pods"
        living = sorted(j.created - j.deleting)
        if len(living) > 12 or (living and self._rng.random() < 0.45):
            name = self._rng.choice(living)
            j.deleting.add(name)
            status, _ = self.api.ask("DELETE", f"{path}/{name}?gracePeriodSeconds=0")
            if status == 200:
                j.deleted.add(name)
            return
        name = f"{j.name}-{len(j.attempted)}"
        j.attempted.add(name)
        status, _ = self.api.ask("POST", path, pod(name, self.node, ()))
        if status == 201:
            j.created.add(name)


class Poller(Worker):
    def __init__(self, host: Host, api: Api, readings: Readings, paths: Sequence[str], *, pace: float) -> None:
        super().__init__(readings.name, host, api, pace=pace)
        self.readings, self.paths = readings, paths

    def step(self) -> None:
        for path in self.paths:
            status, obj = self.api.ask("GET", path)
            if status == 200:
                note(self.readings, obj)
            elif status == 404:
                self.readings.wrong.append(f"{path} is not found")


class Watcher(Worker):
    """One watch of all ConfigMaps, resumed where it broke off, at whatever server."""

    PATH = "/api/v1/namespaces/default/configmaps"

    def __init__(self, host: Host, api: Api, readings: Readings) -> None:
        super().__init__(readings.name, host, api, pace=0.05)
        self.readings = readings
        self._version = ""

    def step(self) -> None:
        if not self._version:
            status, found = self.api.ask("GET", self.PATH)
            if status != 200:
                return
            self._version = found["metadata"]["resourceVersion"]
            if self.readings.start:
                self.readings.gaps.append(int(self._version))
            self.readings.start = self.readings.start or int(self._version)
            before = {place: version for place, version, _ in self.readings.seen}
            for obj in found["items"]:
                if before.get(obj["metadata"]["name"]) != int(obj["metadata"]["resourceVersion"]):
                    note(self.readings, obj)
        answer = self.api.stream(f"{self.PATH}?watch=1&allowWatchBookmarks=1&resourceVersion={self._version}")
        self.readings.connections += 1
        with answer:
            if answer.status == 410:
                self._version = ""
            if answer.status != 200:
                return
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                while not self.stopping.is_set() and (line := answer.readline()):
                    self._event(json.loads(line))
                    if not self._version:
                        return

    def _event(self, event: Any) -> None:
        obj = event["object"]
        if event["type"] == "ERROR":
            if obj.get("code") == 410:
                self._version = ""
            return
        self._version = obj["metadata"]["resourceVersion"]
        if event["type"] in ("ADDED", "MODIFIED"):
            note(self.readings, obj)
        elif event["type"] == "DELETED":
            self.readings.wrong.append(f"{obj['metadata']['name']} is said to be deleted")


def note(readings: Readings, obj: Any) -> None:
    inner = obj["metadata"]
    values = {**(obj.get("data") or {}), **(inner.get("labels") or {})}
    numbers = {k: int(v) for k, v in values.items() if v.isdigit() and not k.endswith(FLIP)}
    readings.seen.append((inner["name"], int(inner["resourceVersion"]), numbers))


def pod(name: str, node: str, config_maps: Sequence[str]) -> dict[str, Any]:
    volumes = [{"name": f"v{n}", "configMap": {"name": config}} for n, config in enumerate(config_maps)]
    mounts = [{"name": v["name"], "mountPath": f"/{v['name']}"} for v in volumes]
    container = {"name": "c", "image": "demo:1", "volumeMounts": mounts}
    spec = {"nodeName": node, "containers": [container], "volumes": volumes}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def token_of(kubeconfig: os.PathLike[str]) -> str:
    with open(kubeconfig, encoding="utf-8") as file:
        return str(json.load(file)["users"][0]["user"]["token"])
