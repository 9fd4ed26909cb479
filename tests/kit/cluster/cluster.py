"""The parts of one control plane, started and stopped in one host."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.kit.cluster import parts
from tests.kit.cluster.identities import MASTERS, Identities
from tests.kit.topology import DEFAULT_TIMEOUT, Host, until
from tests.kit.upstream import build

RELEASE = os.environ.get("KUBERNETES_RELEASE", "")  # of the control plane, build.OLDEST say; "": the newest
_TIMEOUT = 120.0  # seconds, on a loaded machine; 6 are usual


class KubernetesCluster:
    """`address` is one of the host's, not loopback; `options` are more arguments by the name of a part; `release`: RELEASE, unless it is said. The
    host's end ends everything."""

    def __init__(
        self,
        host: Host,
        directory: Path,
        *,
        address: str,
        names: Sequence[str] = (),
        pods: str = "10.244.0.0/16",
        services: str = "10.96.0.0/16",
        options: Mapping[str, Sequence[str]] | None = None,
        release: str | None = None,
    ) -> None:
        self.release = RELEASE if release is None else release  # of parts that are started from now on
        self.host, self.directory, self.address = host, directory, address
        self.identities = Identities(directory / "pki", [address, *names], parts.API_PORT)
        self._options = options or {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._configs: dict[tuple[str, tuple[str, ...]], Path] = {}
        self._commands: dict[str, list[str]] = {
            "etcd": parts.etcd(self.identities, directory / "etcd"),
            "kube-apiserver": parts.api_server(self.identities, address, services),
            "kube-controller-manager": parts.controller_manager(self.identities, pods, services),
            "kube-scheduler": parts.scheduler(self.identities),
        }

    @property
    def server(self) -> str:
        """https://ADDRESS:PORT"""
        return self.identities.server

    @property
    def kubelet_ca(self) -> tuple[Path, Path]:
        """Certificate and key of the authority that the API server trusts at kubelets' ports."""
        return self.identities.kubelets.ca, self.identities.kubelets_key

    # The parts

    def start(self) -> None:
        """All of them; returns when pods can be created. Controllers and scheduler end when the API server does not know their roles yet."""
        self.start_part("etcd")
        self.start_part("kube-apiserver")
        self.wait_for_api()
        self.start_part("kube-controller-manager")
        self.start_part("kube-scheduler")
        self.wait()

    def start_part(self, part: str) -> None:
        """Without waiting for it."""
        release = self.release if part != "etcd" else ""
        command = [str(build.program(part, release)), *self._commands[part], *self._options.get(part, ())]
        self._running[part] = self.host.spawn(*command, log=self.directory / f"{part}.log")

    def change(self, part: str, *arguments: str) -> None:
        """More of them from its next start on; of those with one name the last counts."""
        self._commands[part] = [*self._commands[part], *arguments]

    def stop(self, part: str) -> None:
        """SIGTERM, as for an upgrade."""
        self.host.stop(self._running.pop(part), timeout=_TIMEOUT)

    def kill(self, part: str) -> None:
        """SIGKILL."""
        process = self._running.pop(part)
        self.host.signal(process, signal.SIGKILL)
        process.wait(timeout=_TIMEOUT)

    def back_up(self) -> None:
        """What etcd has; it is away for a moment. It is killed: to stop, it waits for its clients."""
        self.kill("etcd")
        shutil.copytree(self.directory / "etcd", self.directory / "etcd-backup")
        self.start_part("etcd")
        self.wait_for_api()

    def restore(self) -> None:
        """All parts end, and start with what etcd had at `back_up`: an administrator's way, for controllers go by what they have seen, too."""
        for part in tuple(self._running):
            self.kill(part)
        shutil.rmtree(self.directory / "etcd")
        (self.directory / "etcd-backup").rename(self.directory / "etcd")
        self.start()

    def pause(self, part: str) -> None:
        """SIGSTOP: it accepts connections and answers nothing."""
        self.host.signal(self._running[part], signal.SIGSTOP)

    def resume(self, part: str) -> None:
        self.host.signal(self._running[part], signal.SIGCONT)

    def wait(self) -> None:
        """Until the API server is ready and the controllers have made the default ServiceAccount."""
        self.wait_for_api()
        until(
            lambda: self._alive() and self._try("get", "serviceaccount", "default", "-o", "name") != "",
            timeout=_TIMEOUT, what="the controllers", interval=0.1,
        )  # fmt: skip

    def wait_for_api(self) -> None:
        """Until the API server is ready."""
        until(lambda: self._alive() and self._ready(), timeout=_TIMEOUT, what="the API server", interval=0.1)

    def _ready(self) -> bool:
        return self._try("get", "--raw", "/readyz").strip() == "ok"

    def _alive(self) -> bool:
        for part, process in self._running.items():
            if process.poll() is not None:
                raise RuntimeError(f"{part} ended with {process.returncode}: {self.log(part)[-2000:]}")
        return True

    def log(self, part: str) -> str:
        return (self.directory / f"{part}.log").read_text(errors="replace")

    # Its users

    def kubeconfig(self, user: str = "admin", groups: Sequence[str] = MASTERS) -> Path:
        """A file for that user; made once."""
        key = user, tuple(groups)
        if key not in self._configs:
            self._configs[key] = self.identities.kubeconfig(user, groups)
        return self._configs[key]

    def kubectl(
        self,
        *arguments: str,
        input: str | None = None,
        user: Path | None = None,
        check: bool = True,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> str:
        """Standard output; `user` is a kubeconfig."""
        return self.host.run(*self.kubectl_command(*arguments, user=user), input=input, check=check, timeout=timeout)

    def kubectl_command(self, *arguments: str, user: Path | None = None) -> list[str]:
        """As `kubectl` runs it, in the host."""
        return [
            "env", f"HOME={self.directory}", str(build.program("kubectl")), f"--kubeconfig={user or self.kubeconfig()}",
            *arguments,
        ]  # fmt: skip

    def json(self, *arguments: str) -> Any:
        """What kubectl prints with -o json."""
        return json.loads(self.kubectl(*arguments, "-o", "json"))

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create or change them."""
        manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.kubectl("apply", "-f", "-", input=manifest)

    def _try(self, *arguments: str) -> str:
        return self.kubectl(*arguments, "--request-timeout=5s", check=False)
