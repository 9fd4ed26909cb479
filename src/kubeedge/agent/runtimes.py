"""The runtime of this node, from its configuration. What is not chosen is not imported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubeedge.config.edge import AppEngineConfig, EdgeConfig
from kubeedge.config.node_credentials import NodeCredentials

if TYPE_CHECKING:
    from kubeedge.appengine.runtime.base import ClusterDns, Runtime
    from kubeedge.appengine.runtime.group_limits import PodBounds


def embedded(config: EdgeConfig, own: NodeCredentials) -> Runtime:
    """crun and conmon, with the images of this node."""
    from kubeedge.appengine.images.service import EmbeddedImages
    from kubeedge.appengine.images.store import ImageStore
    from kubeedge.appengine.runtime.embedded import EmbeddedRuntime
    from kubeedge.appengine.runtime.settings import EmbeddedSettings

    c, paths = config.modules.appengine, config.paths
    images = EmbeddedImages(ImageStore(paths.state / "images"), _reach(c), pinned=c.images.pre_pull)
    return EmbeddedRuntime(
        EmbeddedSettings(
            root=paths.state,
            run=paths.run,
            node=own.node,
            pod_cidrs=own.pod_cidrs,
            bridge=c.bridge,
            cgroup_prefix=c.cgroup_prefix,
            cni_bin_dirs=c.cni_bin_dirs,
            bounds=_bounds(c),
            dns=_cluster_dns(config),
            overlay_cidrs=own.overlay,
        ),
        images,
    )


def cri(config: EdgeConfig, own: NodeCredentials) -> Runtime:
    """What listens at the socket that the configuration names."""
    from kubeedge.appengine.runtime.cri.runtime import CriRuntime
    from kubeedge.appengine.runtime.cri.settings import CriSettings

    c = config.modules.appengine
    return CriRuntime(
        CriSettings(
            socket=Path(c.cri.endpoint.removeprefix("unix://")),
            root=config.paths.state,
            node=own.node,
            pod_cidrs=own.pod_cidrs,
            bridge=c.bridge,
            cgroup_prefix=c.cgroup_prefix,
            cni_conf=Path(c.cri.cni_conf_dir) if c.cri.cni_conf_dir else None,
            bounds=_bounds(c),
            pinned=c.images.pre_pull,
            dns=_cluster_dns(config),
            overlay_cidrs=own.overlay,
        )
    )


def _bounds(config: AppEngineConfig) -> PodBounds:
    """All that is not reserved, as the kubelet's enforceNodeAllocatable; what eviction keeps free is within that."""
    from kubeedge.appengine import node
    from kubeedge.appengine.runtime.group_limits import PodBounds

    cpu, memory = node.for_pods(node.reserved((*config.system_reserved, *config.kube_reserved)))
    return PodBounds(config.pod_pids_limit, config.pids_limit, cpu, memory)


def _cluster_dns(config: EdgeConfig) -> ClusterDns | None:
    from kubeedge.appengine.runtime.base import ClusterDns

    mesh = config.modules.mesh
    return ClusterDns(mesh.dns, mesh.domain) if mesh.enable else None


def _reach(config: AppEngineConfig) -> dict[str, Any]:
    """How registries are reached, as the helper that pulls takes it."""
    images = config.images
    reach: dict[str, Any] = {
        "registries": [
            {"registry": r.registry, "mirrors": list(r.mirrors), "plainHttp": r.plain_http, "ca": r.ca}
            for r in images.registries
        ],
        "insecure": list(config.insecure_registries),
        "dockerConfigs": list(images.docker_configs),
    }
    if images.credential_provider_config:
        reach["providers"] = {
            "config": images.credential_provider_config,
            "directory": images.credential_provider_bin_dir,
        }
    return reach
