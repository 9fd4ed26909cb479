"""`kubeedge reset`: undo join on this machine. Touches what join and the agent made below their own paths, and nothing else.

The agent is asked to end its pods and itself; when it does not run, what its containers left is swept here. The state directory is removed only
when it has the marker file that join put there, and only after everything mounted below it is unmounted: a volume's data is not ours.

With --keep-state only what runs is ended: the node goes on when its agent is started again. Debian's package does so when it is removed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from kubeedge.cli import cluster, service
from kubeedge.cli.control import call
from kubeedge.cli.errors import CommandError, UsageError
from kubeedge.cli.join import STATE_MARK
from kubeedge.config import edge, node_credentials
from kubeedge.errors import Invalid
from kubeedge.kit import forwarding, trees
from kubeedge.mesh import bridge_filter

_PKI_FILES = ("ca.crt", "node.crt", "node.key", "node.key.next", "join.key")
_RUN_ENTRIES = (
    "exits",
    "ns",
    "oci",
    "s",
    "specs",
    "edge.sock",
    *forwarding.NOTES,
    *bridge_filter.NOTES,
)  # the cloud's socket may be beside them
_OCI_RUNTIMES = ("/run/crun", "/run/runc")  # where they keep the state of containers
_BRIDGE_TIMEOUT = 2.0  # seconds
_TOOL_TIMEOUT = 60.0  # seconds; ip and nft end at once, unless the machine is overloaded
_STOP_TIMEOUT = 15 * 60.0  # seconds; pods have their grace periods, of which the agent waits for ten minutes


def run(options: argparse.Namespace) -> int:
    """Exit status 0, also when there was nothing to remove. Raises CommandError when something stays that must not be deleted."""
    if options.what == "cloud":  # only when it is said: a node may have a kubeconfig, too
        return cluster.run(options)
    root = Path(options.root_dir).absolute()
    config = _config(root)
    if not options.force:
        _confirm(root, options.keep_state)
    pods = {pod.name for root in _runtime_roots(config.paths.state) for pod in _directories(root / "pods")}
    done = ["stopped the agent and its pods"] if _stop_agent(config.paths.run / "edge.sock") else []
    node = _node(config.paths)
    if not options.keep_state:
        service.remove(service.EDGE, service.agent_command(root))
    done += _sweep_pods(config)
    _remove_logs(config.paths.logs, pods)
    _remove_shared(config)
    if options.keep_state:
        _remove_run(config.paths)
    else:
        done += _remove(config)
        if node:
            print(
                f"next: node {node} is still in the cluster: `kubectl delete node {node}` removes it; to join again under its name "
                "needs that, or a token made with --replace",
                file=sys.stderr,
            )
    print("\n".join(done) if done else "there was nothing to remove")
    return 0


def _config(root: Path) -> edge.EdgeConfig:
    paths = edge.at_root(root)
    path = paths.pki.parent / "kubeedge.yaml"
    if path.exists():
        try:
            return edge.load(path)
        except Invalid as exc:
            print(f"warning: {exc}; using the default paths", file=sys.stderr)
    return edge.EdgeConfig(paths=paths)


def _confirm(root: Path, keeps_state: bool) -> None:
    what = "pods" if keeps_state else "pods, state and credentials"
    if not sys.stdin.isatty():
        raise UsageError(f"reset removes the node's {what}", "confirm with --force")
    answer = input(f"This removes the node's {what} below {root}. Type 'yes' to go on: ")
    if answer.strip() != "yes":
        raise CommandError("nothing was changed")


def _node(paths: edge.Paths) -> str:
    """Its name; "" when this machine has not joined."""
    try:
        return node_credentials.load_credentials(node_credentials.credentials_path(paths)).node
    except Invalid:
        return ""


def _stop_agent(control: Path) -> bool:
    """Pods first, then the agent. False: none ran."""
    if not _listens(control):
        return False
    call(str(control), "POST", "/v1/stop", {"pods": True}, timeout=_STOP_TIMEOUT)
    deadline = time.monotonic() + _STOP_TIMEOUT
    while _listens(control):
        if time.monotonic() > deadline:
            raise CommandError("the agent does not stop", "end it by hand, then run `kubeedge reset` again")
        time.sleep(0.1)
    return True


def _listens(control: Path) -> bool:
    try:
        call(str(control), "GET", "/v1/status")
    except CommandError as exc:
        return not isinstance(exc.__cause__, FileNotFoundError | ConnectionRefusedError | NotADirectoryError)
    return True


def _sweep_pods(config: edge.EdgeConfig) -> list[str]:
    """Containers, networks and mounts of pods that no agent looks after any more."""
    roots = _runtime_roots(config.paths.state)
    if not roots:
        return []
    import asyncio

    from kubeedge.appengine.images.service import EmbeddedImages
    from kubeedge.appengine.images.store import ImageStore
    from kubeedge.appengine.runtime.embedded import EmbeddedRuntime
    from kubeedge.appengine.runtime.settings import EmbeddedSettings

    try:
        credentials = node_credentials.load_credentials(node_credentials.credentials_path(config.paths))
        node, pod_cidrs = credentials.node, credentials.pod_cidrs
    except Invalid:
        node, pod_cidrs = "unknown", ("10.244.0.0/16",)
    removed = []
    for root in roots:
        settings = EmbeddedSettings(
            root=root,
            run=config.paths.run,
            node=node,
            pod_cidrs=pod_cidrs,
            bridge=config.modules.appengine.bridge,
            cgroup_prefix=config.modules.appengine.cgroup_prefix,
            cni_bin_dirs=config.modules.appengine.cni_bin_dirs,
        )
        runtime = EmbeddedRuntime(settings, EmbeddedImages(ImageStore(root / "images")))
        for pod in _directories(root / "pods"):
            asyncio.run(runtime.remove_pod(pod.name))
            removed.append(f"removed pod {pod.name}")
    return removed


def _runtime_roots(state: Path) -> list[Path]:
    """The directories in which a runtime has pods."""
    return [r for r in (state, *_directories(state)) if _directories(r / "pods")]


def _remove_logs(logs: Path, pods: set[str]) -> None:
    """Of our pods; the directory may be another kubelet's, too. Theirs is NAMESPACE_NAME_UID."""
    for directory in _directories(logs):
        if directory.name.rpartition("_")[2] in pods:
            shutil.rmtree(directory, ignore_errors=True)


def _remove_socket(path: Path) -> None:
    """A socket that an agent which was killed has left, and its directory; not when somebody listens there, or others have theirs beside it."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except FileNotFoundError:
            path.parent.rmdir()
        except ConnectionRefusedError:
            path.unlink()
            path.parent.rmdir()


def _remove_shared(config: edge.EdgeConfig) -> None:
    """What the pods of this node had in common, unless another program uses it, too."""
    if not (config.paths.state / STATE_MARK).exists():
        return  # this machine has not joined: a bridge of that name is not ours
    from kubeedge.appengine import node_devices
    from kubeedge.appengine.runtime.pod_groups import PodGroups

    PodGroups(config.modules.appengine.cgroup_prefix).leave()
    for path in node_devices.sockets(config.paths.kubelet):
        _remove_socket(path)
    with contextlib.suppress(OSError):  # CSI drivers may have theirs there
        config.paths.kubelet.rmdir()
    _remove_bridge(config.modules.appengine.bridge)
    from kubeedge.kubebus.l3 import netsetup

    with contextlib.suppress(OSError):  # not ours to change
        netsetup.remove_rules()
    if config.modules.mesh.enable:
        from kubeedge.mesh.module import leave

        with contextlib.suppress(OSError):
            leave(config.modules.mesh.dns, config.paths.run)
    _remove_tables()
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        forwarding.restore(config.paths.run)


def _remove_bridge(name: str) -> None:
    """When nothing is connected to it any more; the kernel takes a moment to forget a pod's network."""
    deadline = time.monotonic() + _BRIDGE_TIMEOUT
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        while _ip("-o", "link", "show", "master", name):
            if time.monotonic() > deadline:
                return  # another interface is connected to it
            time.sleep(0.05)
        _ip("link", "delete", name)


def _remove_tables() -> None:
    """Rules of the pods' network, of a virtual router, of Services and of policies. A table that is not there is fine."""
    from kubeedge.appengine.runtime.cni import TABLE
    from kubeedge.kubebus.router import TABLE as ROUTER_TABLE
    from kubeedge.mesh.packet_filter import TABLE as POLICY_TABLE
    from kubeedge.mesh.ruleset import TABLE as MESH_TABLE

    of_mesh = [(family, name) for name in (MESH_TABLE, POLICY_TABLE) for family in ("ip", "ip6")]
    for family, name in (("ip", TABLE), ("ip6", TABLE), ("ip", ROUTER_TABLE), ("ip6", ROUTER_TABLE), *of_mesh):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                ["nft", "delete", "table", family, name], capture_output=True, timeout=_TOOL_TIMEOUT, check=False
            )


def _ip(*arguments: str) -> str:
    return subprocess.run(
        ["ip", *arguments], capture_output=True, text=True, timeout=_TOOL_TIMEOUT, check=False
    ).stdout.strip()


def _remove(config: edge.EdgeConfig) -> list[str]:
    paths = config.paths
    removed: list[str] = []
    _unmount_below(paths.run / "ns")
    # credentials first: a reset that is interrupted leaves no node that comes back
    files = [
        node_credentials.credentials_path(paths),
        node_credentials.ipv6_path(node_credentials.credentials_path(paths)),
        *(paths.pki / name for name in _PKI_FILES),
        paths.pki.parent / "kubeedge.yaml",
        paths.pki.parent / "kubeconfig",  # of the node's own API
    ]
    for path in files:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            removed.append(f"removed {path}")
    _remove_run(paths)
    if paths.state.exists() and not _is_empty_partition(paths.state):
        removed.append(_remove_state(paths.state.resolve()))
    _remove_empty(paths)
    return removed


def _remove_run(paths: edge.Paths) -> None:
    """What a restart of the machine would remove, too."""
    _unmount_below(paths.run / "ns")
    for path in (paths.run / name for name in _RUN_ENTRIES):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _remove_empty(paths: edge.Paths) -> None:
    """Our directories, unless another program keeps files in them."""
    above = [path.parent for path in (paths.pki, paths.state) if path.parent.name == "kubeedge"]
    for directory in (paths.pki, *above, paths.run, paths.logs, *map(Path, _OCI_RUNTIMES)):
        with contextlib.suppress(OSError):
            directory.rmdir()  # only when it is empty


def _remove_state(state: Path) -> str:
    if not (state / STATE_MARK).exists():
        raise CommandError(
            f"{state} was not made by `kubeedge join` (it has no {STATE_MARK}); everything else is removed",
            f"if nothing else is kept there, remove it with: rm -r {state}",
        )
    _unmount_below(state)
    trees.remove(state)
    if state.exists() and not _is_empty_partition(state):
        raise CommandError(f"not all of {state} could be removed")
    return f"removed {state}"


def _is_empty_partition(directory: Path) -> bool:
    """The state directory may be one, which stays."""
    return os.path.ismount(directory) and not any(directory.iterdir())


def _unmount_below(directory: Path) -> None:
    """Raises CommandError when something stays: deleting would reach into what is mounted."""
    from kubeedge.appengine.runtime import mounts

    for point in mounts.mounted_below(directory):
        with contextlib.suppress(OSError):
            mounts.unmount(point)
    if left := mounts.mounted_below(directory):
        raise CommandError(f"{left[0]} is still mounted", f"umount {left[0]}, then run `kubeedge reset` again")


def _directories(path: Path) -> list[Path]:
    try:
        return sorted(p for p in path.iterdir() if p.is_dir() and not p.is_symlink())
    except OSError:
        return []
