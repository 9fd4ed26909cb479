"""The images of the cloud side and of the mappers from what is installed here: everything of `make cloud-image` and `make mapper-image` but the
compiling of wheels, in seconds."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import sys
from pathlib import Path

from cloud.image import __main__ as image
from tests.kit.upstream import build as upstream

ROOT = Path(__file__).resolve().parents[2]
EPOCH = 1_700_000_000
NAME = image.CLOUD.default
#: source directory -> package: this project's own, which is installed as links into the working tree
_OWN = {
    "src/kubeedge": "kubeedge",
    "src/_fastpath": "kubeedge/_fastpath",
    "cloud/kubeedge_cloud": "kubeedge_cloud",
    "cloud/chart/kubeedge": "kubeedge_cloud/chart",
}


def build(out: Path, name: str = NAME) -> Path:
    """The archive of the cloud side, in `out`."""
    site = _site(out, "kubeedge-cloud", {"etcd", "kubernetes"}, _OWN)
    return image.assemble(site, out, name, EPOCH, build_cache() / "debs")


def build_mappers(out: Path, name: str = image.MAPPERS.default) -> Path:
    """The archive of all mappers, in `out`."""
    own = {source: package for source, package in _OWN.items() if "cloud" not in source}
    site = _site(out, "kubeedge", {"broker"}, own)
    return image.assemble(site, out, name, EPOCH, build_cache() / "debs", contents=image.MAPPERS)


def _site(out: Path, distribution: str, extras: set[str], own: dict[str, str]) -> Path:
    site = out / "site"
    for one in _needed(distribution, extras):
        _copy(one, site)
    for source, package in own.items():
        ignore = shutil.ignore_patterns("__pycache__", "*.c", "*.h", "*.pyx", "*.pxi")
        shutil.copytree(ROOT / source, site / package, ignore=ignore, dirs_exist_ok=True)
    return site


def build_cache() -> Path:
    """Of Debian packages, outside the checkout."""
    return upstream.cache().parent / "cloud-image"


def _needed(name: str, extras: set[str]) -> list[importlib.metadata.Distribution]:
    found: dict[str, importlib.metadata.Distribution] = {}
    queue = [(name, extras)]
    while queue:
        wanted, asked = queue.pop()
        key = re.sub(r"[-_.]+", "-", wanted).lower()
        if key in found:
            continue
        distribution = found[key] = importlib.metadata.distribution(wanted)
        for line in distribution.requires or ():
            requirement, _, marker = line.partition(";")
            extra = re.search(r"extra == ['\"]([^'\"]+)['\"]", marker)
            if (extra is None or extra[1] in asked) and _applies(marker):
                match = re.match(r"\s*([A-Za-z0-9._-]+)(?:\[([^\]]*)\])?", requirement)
                assert match is not None
                queue.append((match[1], set((match[2] or "").split(","))))
    return list(found.values())


def _applies(marker: str) -> bool:
    """As far as our dependencies' markers go: another Python, another system, another implementation."""
    from packaging.markers import Marker

    plain = re.sub(r"(and\s+)?extra == ['\"][^'\"]+['\"](\s+and)?", "", marker).strip()
    return not plain or Marker(plain).evaluate()


def _copy(distribution: importlib.metadata.Distribution, site: Path) -> None:
    for file in distribution.files or ():
        source = Path(str(distribution.locate_file(file)))
        inside = not file.parts[0].startswith(("..", "__editable__")) and "__pycache__" not in file.parts
        if inside and source.is_file():
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, site / file)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
