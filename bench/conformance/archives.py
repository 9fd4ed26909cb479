"""The images that the suite's pods are made of, under the names that it asks for, without a registry.

Built from upstream's Go module (agnhost, etcd, nonewprivs, sample-apiserver) and Debian packages (busybox-static, bash, bind9-dnsutils, curl,
hostname, iproute2, libc-bin, netcat-openbsd, wget). What is not here cannot be pulled: a spec that needs it fails, and `causes` says so.
"""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from bench.peers.debian import LIBRARIES, UNPACKED, unpack
from tests.kit import images
from tests.kit.certs import TestAuthority
from tests.kit.layers import Entry, directory, entry, layer, link
from tests.kit.upstream import build

_REGISTRY = "registry.k8s.io/e2e-test-images"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: what Kubernetes' pause does: wait, and end when it is told
PAUSE = ["/bin/sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 100000 & wait; done"]
#: a user of the image with a group of the image, for supplementalGroupsPolicy
_PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\nuser-defined-in-image:x:1000:1000::/home:/bin/sh\n"
_GROUP = (
    "root:x:0:\nnogroup:x:65534:\nuser-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n"
)

_SITE = "usr/share/nginx/html"  # where nginx has its files
#: Debian packages that are unpacked, not installed on this machine
_UNPACKED = ("netcat-openbsd", "bind9-dnsutils", "wget")

#: file name -> names of one image
NAMES = {
    "nginx": (f"{_REGISTRY}/nginx:1.27.0-2",),
    "nginx-new": (f"{_REGISTRY}/nginx:1.28.0-2",),
    "nautilus": (f"{_REGISTRY}/nautilus:1.8",),
    "kitten": (f"{_REGISTRY}/kitten:1.8",),
    "sample-apiserver": (f"{_REGISTRY}/sample-apiserver:1.29.2",),
    "etcd": ("registry.k8s.io/etcd:3.7.0-0",),
    "busybox": (f"{_REGISTRY}/busybox:1.37.0-2", f"{_REGISTRY}/busybox:1.36.1-1"),
    "pause": ("registry.k8s.io/pause:3.10.2",),
    "nonroot": (f"{_REGISTRY}/nonroot:1.5",),
    "nonewprivs": (f"{_REGISTRY}/nonewprivs:1.4",),
    "glibc": (f"{_REGISTRY}/glibc-dns-testing:2.1.1",),
    "agnhost": (f"{_REGISTRY}/agnhost:2.66.1", f"{_REGISTRY}/agnhost:2.55"),
}


def write(directory: Path, kinds: Collection[str] = NAMES, *, network_tools: bool = True) -> list[Path]:
    """One archive for each name of these, which an agent imports when it starts. `network_tools`: with those that come from Debian's archive.
    Raises subprocess.CalledProcessError: upstream's part cannot be built."""
    directory.mkdir(parents=True, exist_ok=True)
    made = []
    for kind in kinds:
        above, config = _content(kind, network_tools)
        for number, name in enumerate(NAMES[kind]):
            path = directory / f"{kind}-{number}.tar"
            made.append(images.build(path, name, above=[above], config={"Env": [_PATH], **config}))
    return made


def _content(kind: str, network_tools: bool) -> tuple[bytes, dict[str, Any]]:
    """The layer above busybox, and what the image says of its process."""
    if kind == "pause":
        return layer(), {"Entrypoint": PAUSE, "Cmd": None}
    if kind == "nonroot":
        return layer(), {"User": "1234"}
    if kind == "nonewprivs":
        program = build.program("nonewprivs").read_bytes()
        return layer(*_directories("usr/local/bin"), entry("usr/local/bin/nnp", program, mode=0o6755)), {"Cmd": ["nnp"]}
    if kind == "agnhost":
        return layer(*_agnhost(network_tools)), {"Entrypoint": ["/agnhost"], "Cmd": ["pause"]}
    if kind in ("nginx", "nginx-new"):  # any web server will do
        page = entry(f"{_SITE}/index.html", b"Welcome to nginx!\n")
        return layer(*_directories(_SITE), page), {"Cmd": ["httpd", "-f", "-p", "80", "-h", f"/{_SITE}"]}
    if kind in ("nautilus", "kitten"):
        picture = entry("data.json", json.dumps({"image": f"{kind}.jpg"}).encode())
        return layer(*_agnhost(network_tools), picture), {"Entrypoint": ["/agnhost"], "Cmd": ["test-webserver"]}
    if kind == "sample-apiserver":
        return layer(_program("sample-apiserver", "")), {"Entrypoint": ["/sample-apiserver"], "Cmd": None}
    if kind == "etcd":
        return layer(*_directories("usr/local/bin"), _program("etcd", "usr/local/bin/")), {"Cmd": ["etcd"]}
    if kind == "glibc":  # who resolves a name there is glibc
        return layer(*_shell(), *_installed("bin/hostname"), *_resolver(network_tools)), {}
    return layer(*_shell()), {}


def _shell() -> Iterator[Entry]:
    """bash for sh: Debian's busybox gives `env` only variables whose names a shell can use, and prefers its own programs to those in the image."""
    yield from _installed("bin/bash")
    yield link("bin/sh", "bash")


def _program(name: str, directory: str) -> Entry:
    return entry(f"{directory}{name}", build.program(name).read_bytes(), mode=0o755)


def _agnhost(network_tools: bool) -> Iterator[Entry]:
    yield _program("agnhost", "")
    yield link("agnhost-2", "agnhost")
    yield directory("uploads")
    yield entry("etc/passwd", _PASSWD.encode())
    yield entry("etc/group", _GROUP.encode())
    yield entry("etc/os-release", b'NAME="Alpine Linux"\n')  # upstream's is; a spec that mounts the image reads it
    yield from _certificate()
    yield from _shell()
    yield from _installed("usr/bin/curl")
    yield from _installed("usr/sbin/ip")  # busybox's has few of its verbs
    yield from _resolver(network_tools)
    if network_tools:
        yield from _installed("usr/bin/wget", UNPACKED)  # busybox's, of Debian, dies of -T
        yield from _installed("bin/nc.openbsd", UNPACKED)
        yield link("bin/nc", "nc.openbsd")  # busybox's has no UDP


def _resolver(network_tools: bool) -> Iterator[Entry]:
    """What asks for names, of glibc; upstream's agnhost has musl's."""
    yield entry("etc/nsswitch.conf", b"hosts: files dns\n")
    yield from _installed("usr/bin/getent")
    if network_tools:
        unpack(_UNPACKED)
        yield from _installed("usr/bin/dig", UNPACKED)


def _certificate() -> Iterator[Entry]:
    """Where `agnhost netexec` of a spec looks for it."""
    with tempfile.TemporaryDirectory(prefix="kbconf") as directory:
        serving = TestAuthority(Path(directory)).issue("localhost", hosts=["localhost"])
        yield entry("localhost.crt", serving.cert.read_bytes())
        yield entry("localhost.key", serving.key.read_bytes())


def _installed(program: str, root: Path = Path("/")) -> Iterator[Entry]:
    """A program of this machine, or of Debian's packages below `root`, with its libraries."""
    yield from _directories(str(Path(program).parent))
    yield entry(program, (root / program).read_bytes(), mode=0o755)
    environment = {**os.environ, "LD_LIBRARY_PATH": "" if root == Path("/") else LIBRARIES}
    said = subprocess.run(
        ["ldd", str(root / program)], capture_output=True, text=True, check=True, env=environment
    ).stdout
    for place in sorted({Path(word) for word in said.split() if word.startswith("/")}):
        inside = str(place.relative_to(root if place.is_relative_to(root) else "/"))
        yield from _directories(str(Path(inside).parent))
        yield entry(inside, place.read_bytes(), mode=0o755)


def _directories(path: str) -> Iterator[Entry]:
    """`path` and what is above it."""
    parts = path.split("/")
    for length in range(1, len(parts) + 1):
        yield entry("/".join(parts[:length]), type=tarfile.DIRTYPE, mode=0o755)
