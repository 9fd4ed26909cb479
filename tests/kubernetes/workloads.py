"""Pods and workloads of the tests of edge nodes, and what is to be seen of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.kit.cluster.site import IMAGE, Site
from tests.kit.topology import until

TIMEOUT = 180.0  # seconds: a loaded machine is slow, not wrong


def template(app: str, command: str = "exec sleep 100000", **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": IMAGE, "command": ["sh", "-c", command]}
    return {
        "metadata": {"labels": {"app": app}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **spec},
    }


def pod(name: str, node: str = "edge1", command: str = "exec sleep 100000", **spec: Any) -> dict[str, Any]:
    inner = template(name, command, **{"nodeSelector": {"kubernetes.io/hostname": node}, **spec})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **inner["metadata"]}, "spec": inner["spec"]}


def workload(kind: str, name: str, replicas: int | None = None, **spec: Any) -> dict[str, Any]:
    count = {} if replicas is None else {"replicas": replicas}
    return {
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template(name), **count, **spec},
    }  # fmt: skip


def eventually(condition: Callable[[], bool], what: str) -> None:
    until(condition, timeout=TIMEOUT, what=what, interval=0.2)


def wait_ready(site: Site, name: str) -> dict[str, Any]:
    try:
        site.cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=120s", timeout=150)
    except RuntimeError as exc:
        raise AssertionError(f"{exc}\n{site.cluster.kubectl('describe', 'pod', name)}") from exc
    found: dict[str, Any] = site.cluster.json("get", "pod", name)
    return found


def gone(site: Site, *what: str) -> None:
    eventually(lambda: "NotFound" in said(site, *what), f"{what} gone")


def said(site: Site, *what: str) -> str:
    try:
        return site.cluster.kubectl("get", *what)
    except RuntimeError as exc:
        return str(exc)


def logs(site: Site, node: str, name: str) -> str:
    """Of the node's own files; logs through the API are not a matter of this file."""
    found = (site.directory / node / "var/log/pods").glob(f"default_{name}_*/*/*.log")
    return "".join(path.read_text() for path in found)


def runs(site: Site, node: str, words: bytes) -> bool:
    return bool(site.edges[node].running(words))


def ready(site: Site, name: str) -> str:
    conditions = site.cluster.json("get", "node", name)["status"]["conditions"]
    return str(next(c["status"] for c in conditions if c["type"] == "Ready"))
