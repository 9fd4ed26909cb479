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
            cluster.diagnose(namespace),
        )
    status, out, err = _run(
        cluster, namespace, pods[0]["metadata"]["name"], ["/usr/bin/kubeedge", "token", "create", *arguments]
    )
    if status:
        raise _failed(err, f"kubeedge token create in {pods[0]['metadata']['name']}: {status}")
    return out.strip()


def _failed(said: str, otherwise: str) -> Unavailable:
    """In the words of the program there: what is wrong, then "next: ..." and what to do."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    advice = [line.removeprefix("next: ") for line in lines if line.startswith("next: ")]
    why = " ".join(line.removeprefix("kubeedge token: ") for line in lines if not line.startswith("next: "))
    failed = Unavailable(why or otherwise)
    for each in advice:
        failed.add_note(each)
    return failed


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
        if exc.status == 403 or "status 403" in str(exc.reason):
            raise with_next(
                Refused(f"the user of {cluster.source} may not run a program in pod {namespace}/{pod}"),
                f"ask for the rights to get and create pods/exec in namespace {namespace}",
            ) from exc
        what = f"exec in pod {namespace}/{pod}: {str(exc.reason or exc.status).strip():.300}"
        raise (Refused if exc.status == 401 else Unavailable)(what) from exc


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
