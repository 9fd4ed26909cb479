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


def with_soft(dependencies: Mapping[str, list[str]], softdep: str, alias: str) -> dict[str, list[str]]:
    """The same, and what modules ask for by name while they are loaded or used, which modprobe loads before them and insmod does not:
    `modules.softdep`, whose names may be those of `modules.alias`. ext4 asks for crypto-crc32c, and mounts nothing without."""
    by_name = {name(path): path for path in dependencies}
    called: dict[str, list[str]] = {}
    for line in alias.splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "alias" and words[2] in by_name:
            called.setdefault(words[1].replace("-", "_"), []).append(by_name[words[2]])
    found = {path: list(needed) for path, needed in dependencies.items()}
    for line in softdep.splitlines():
        words = line.split()
        if len(words) < 4 or words[0] != "softdep" or (path := by_name.get(words[1].replace("-", "_"))) is None:
            continue
        for word in _before(words[2:]):
            for soft in [by_name[word]] if word in by_name else called.get(word, ()):
                found[path] += [p for p in (soft, *dependencies[soft]) if p not in (path, *found[path])]
    return _closed(found)


def _before(words: list[str]) -> list[str]:
    """Of "pre: a b post: c" a and b."""
    wanted, where = [], ""
    for word in words:
        if word.endswith(":"):
            where = word
        elif where == "pre:":
            wanted.append(word.replace("-", "_"))
    return wanted


def _closed(dependencies: dict[str, list[str]]) -> dict[str, list[str]]:
    """What a needed module asks for is needed, too."""
    for path, needed in dependencies.items():
        for other in list(needed):
            needed += [p for p in dependencies[other] if p != path and p not in needed]
    return dependencies


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
