"""Which of the kernel's modules are in an image, in which order they are loaded: what depmod has written is read, nothing is run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def parse(modules_dep: str) -> dict[str, list[str]]:
    """`modules.dep`: the path of each module, and the paths of all that it needs."""
    found = {}
    for line in modules_dep.splitlines():
        path, colon, needed = line.partition(":")
        if colon:
            found[path] = needed.split()
    return found


def name(path: str) -> str:
    """As modprobe has it: kernel/net/802/stp.ko.xz is stp."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def order(dependencies: Mapping[str, list[str]], wanted: Iterable[str]) -> list[str]:
    """The paths of the modules of these names with what they need, each after what it needs. A name without a module is built in, or is not in
    this kernel: it is left out."""
    by_name = {name(path): path for path in dependencies}
    done: list[str] = []
    for word in wanted:
        path = by_name.get(word.replace("-", "_"))
        if path is None:
            continue
        # modules.dep names the nearest first
        done += [p for p in (*reversed(dependencies[path]), path) if p not in done]
    return done


def closure(dependencies: Mapping[str, list[str]], directories: Iterable[str], names: Iterable[str]) -> set[str]:
    """All modules below these directories, those of these names, and what they need."""
    places = tuple(directory.rstrip("/") + "/" for directory in directories)
    wanted = {word.replace("-", "_") for word in names}
    chosen = [path for path in dependencies if path.startswith(places) or name(path) in wanted]
    return {*chosen, *(needed for path in chosen for needed in dependencies[path])}
