"""What the runtime behind a socket is, and what it can do."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence

from kubeedge.api.names import Object
from kubeedge.appengine.images.names import parse
from kubeedge.appengine.runtime.cri.client import QUICK, CriClient
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.grpc import UNIMPLEMENTED, GrpcError

_SYSTEMD = 0  # CgroupDriver


@dataclass(frozen=True, slots=True)
class CriFeatures:
    """`recursive`: handlers with mounts that are read-only all the way down, `users`: with user namespaces. `sandbox_image`: of its sandboxes, where it tells."""

    scheme: str = "cri"
    version: str = "cri://unknown"
    handlers: Sequence[str] = ("",)
    recursive: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    strict_groups: bool = False
    systemd: bool = False
    sandbox_image: str = ""


async def introduce(client: CriClient, pod_cidr: str) -> CriFeatures:
    """Asks the runtime, and tells it the addresses of pods. Raises GrpcError."""
    version = await client.call("Version", within=QUICK)
    scheme = str(version.get("runtime_name") or "cri")
    status = await client.call("Status", within=QUICK, verbose=True)
    handlers = status.get("runtime_handlers", ())
    with contextlib.suppress(GrpcError):  # containerd alone has a use for it, and some refuse
        network = {"pod_cidr": pod_cidr}
        await client.call("UpdateRuntimeConfig", within=QUICK, runtime_config={"network_config": network})
    return CriFeatures(
        scheme=scheme,
        version=f"{scheme}://{version.get('runtime_version', 'unknown')}",
        handlers=sorted({"", *(str(h.get("name", "")) for h in handlers)}),
        recursive=_with(handlers, "recursive_read_only_mounts"),
        users=_with(handlers, "user_namespaces"),
        strict_groups=bool(status.get("features", {}).get("supplemental_groups_policy")),
        systemd=await _is_systemd(client),
        sandbox_image=_sandbox_image(status),
    )


def _with(handlers: Sequence[Object], feature: str) -> frozenset[str]:
    return frozenset(str(h.get("name", "")) for h in handlers if h.get("features", {}).get(feature))


async def _is_systemd(client: CriClient) -> bool:
    try:
        config = await client.call("RuntimeConfig", within=QUICK)
    except GrpcError as exc:
        if exc.code != UNIMPLEMENTED:
            raise
        return False
    return bool(config.get("linux", {}).get("cgroup_driver", _SYSTEMD) == _SYSTEMD)


def _sandbox_image(status: Object) -> str:
    """containerd 1.6 tells only here which image its sandboxes are of, and would pull it again from a registry."""
    with contextlib.suppress(ValueError, KeyError, TypeError, Invalid):
        return str(parse(json.loads(status["info"]["config"])["sandboxImage"]))
    return ""
