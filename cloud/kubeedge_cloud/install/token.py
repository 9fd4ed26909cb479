"""A bootstrap token from a cloud side in a cluster: its own program, run in its pod."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubeedge.errors import NotFound, Refused, Unavailable, with_next
from kubeedge_cloud.install.apply import ANY
from kubeedge_cloud.install.cluster import TargetCluster

_TIMEOUT = 60  # seconds


def create(cluster: TargetCluster, namespace: str, arguments: Sequence[str]) -> str:
    """What `kubeedge token create ARGUMENTS` printed there. Raises NotFound, Refused, Unavailable."""
    pods = [pod for pod in cluster.list("v1", "Pod", namespace, ANY) if _is_ready(pod)]
    if not pods:
        raise with_next(
            NotFound(f"no pod of the cloud side is Ready in namespace {namespace}"),
            f"kubeedge debug diagnose --namespace {namespace}",
        )
    status, out, err = _run(
        cluster, namespace, pods[0]["metadata"]["name"], ["/usr/bin/kubeedge", "token", "create", *arguments]
    )
    if status:
        raise Unavailable(f"kubeedge token create in {pods[0]['metadata']['name']}: {err.strip() or status}")
    return out.strip()


def _run(cluster: TargetCluster, namespace: str, pod: str, command: Sequence[str]) -> tuple[int, str, str]:
    from kubernetes.client import ApiClient, CoreV1Api
    from kubernetes.client.exceptions import ApiException
    from kubernetes.stream import stream

    client = ApiClient(cluster.configuration)
    api = CoreV1Api(client)
    try:
        answer = stream(
            api.connect_get_namespaced_pod_exec, pod, namespace, container="cloud", command=list(command),
            stderr=True, stdin=False, stdout=True, tty=False, _preload_content=False,
        )  # fmt: skip
        try:
            answer.run_forever(timeout=_TIMEOUT)
        finally:
            answer.sock.shutdown()  # close() leaves it open when the server was first
        out, err = answer.read_stdout(timeout=1) or "", answer.read_stderr(timeout=1) or ""
        return int(answer.returncode or 0), out, err
    except ApiException as exc:
        what = f"exec in pod {namespace}/{pod}: {str(exc.reason or exc.status).strip():.300}"
        raise (Refused if exc.status in (401, 403) or "403" in what else Unavailable)(what) from exc


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
