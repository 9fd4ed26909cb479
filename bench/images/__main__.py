"""`make bench NAME=images`: pull and unpack of an image of 100 MB, ours against `skopeo copy` and `umoci unpack`, from one registry.

    python -m bench.images [--rounds 7]

The registry (docker-registry), skopeo and umoci are Debian's, unpacked below build/. The image is four layers of libraries and programs of this
machine. The runs are interleaved, each into an empty directory; the first round is not counted. Both end with every file on disk (sync).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.peers.debian import LIBRARIES, program, unpack, version
from bench.report import Report
from tests.kit.layers import Image
from tests.kit.ports import ADDRESS, ports

PACKAGES = ("skopeo", "umoci", "docker-registry")
SIZE = 100 * 10**6  # bytes, unpacked
LAYERS = 4
SOURCES = (Path("/usr/lib"), Path("/usr/bin"), Path("/usr/share"))
ENVIRONMENT = {**os.environ, "LD_LIBRARY_PATH": LIBRARIES}


def files() -> Iterator[Path]:
    """In an order that is the same each time."""
    for source in SOURCES:
        for path in sorted(source.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield path


def layers() -> list[bytes]:
    """Uncompressed tars, together of SIZE bytes of files."""
    found, total, paths = [], 0, files()
    for n in range(1, LAYERS + 1):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            while total < SIZE * n // LAYERS:
                path = next(paths)
                tar.add(path, str(path).lstrip("/"), recursive=False)
                total += path.stat().st_size
        found.append(out.getvalue())
    return found


@contextlib.contextmanager
def registry(directory: Path) -> Iterator[str]:
    """Debian's, on a port of loopback."""
    host = f"{ADDRESS}:{ports(1)[0]}"
    config = directory / "registry.json"  # JSON is YAML, too
    storage = {"filesystem": {"rootdirectory": str(directory / "registry")}}
    config.write_text(
        json.dumps({"version": 0.1, "log": {"level": "error"}, "storage": storage, "http": {"addr": host}})
    )
    process = subprocess.Popen(
        [program("docker-registry"), "serve", str(config)],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://{host}/v2/", timeout=5).close()
                break
            if process.poll() is not None:
                raise RuntimeError("the registry does not start")
            time.sleep(0.05)
        yield host
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def run(command: Sequence[str], data: bytes = b"") -> tuple[bytes, int]:
    """What it wrote, and its largest resident size in bytes (VmHWM, looked at every 5 ms)."""
    peak = 0
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as given:
        given.write(data)
        given.seek(0)
        process = subprocess.Popen(command, stdin=given, stdout=out, stderr=subprocess.STDOUT, env=ENVIRONMENT)
        while process.poll() is None:
            with contextlib.suppress(OSError, StopIteration):
                lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
                peak = max(peak, int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024)
            time.sleep(0.005)
        out.seek(0)
        said = out.read()
    if process.returncode:
        raise RuntimeError(f"{command[0]}: {said.decode()[-500:]}")
    return said, peak


def theirs(host: str, directory: Path) -> int:
    """The larger of both programs, in bytes."""
    skopeo = [program("skopeo"), "--insecure-policy", "copy", "-q", "--src-tls-verify=false"]
    _, copying = run([*skopeo, f"docker://{host}/lab/app:1", f"oci:{directory}/oci:1"])
    _, unpacking = run([program("umoci"), "unpack", "--image", f"{directory}/oci:1", f"{directory}/bundle"])
    os.sync()
    return max(copying, unpacking)


def ours(host: str, directory: Path) -> int:
    """The helper process, in bytes."""
    request = {"root": str(directory), "pull": f"{host}/lab/app:1"}
    said, peak = run([sys.executable, "-m", "kubeedge.appengine.images.fetch"], json.dumps(request).encode())
    if b'"names"' not in said:
        raise RuntimeError(said.decode())
    os.sync()
    return peak


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench NAME=images", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    unpack(PACKAGES)
    report = Report("images")
    report.versions = {name: version(name) for name in PACKAGES}
    with tempfile.TemporaryDirectory(prefix="kbimages") as name, registry(Path(name)) as host:
        directory = Path(name)
        image = Image(*layers())
        image.archive(directory / "image.tar", name="app:1")
        (directory / "layout").mkdir()
        run(["tar", "-xf", str(directory / "image.tar"), "-C", str(directory / "layout")])
        (directory / "layout/oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        skopeo = [program("skopeo"), "--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]
        run([*skopeo, f"oci:{directory}/layout", f"docker://{host}/lab/app:1"])
        for n in range(rounds + 1):
            times, peaks = {}, {}
            for who in (theirs, ours):
                target = directory / who.__name__
                target.mkdir()
                os.sync()
                begun = time.monotonic()
                peaks[who] = who(host, target)
                times[who] = time.monotonic() - begun
                shutil.rmtree(target)
            if n:
                report.add("skopeo copy + umoci unpack", times[theirs], unit="s")
                report.add("kubeedge", times[ours], unit="s")
                report.add("kubeedge / skopeo + umoci", times[ours] / times[theirs], unit="x", must=1.3, aim=0.8)
                report.add("skopeo, umoci: resident at most", peaks[theirs] / 1e6, unit="MB")
                report.add("kubeedge: resident at most", peaks[ours] / 1e6, unit="MB")
    return 0 if report.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
