"""`kubeedge secrets-key`: generate, rotate, prune, status, of the keys that encrypt Secrets in the store of this machine."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from kubeedge.cli.errors import CommandError
from kubeedge.cli.parser import DEFAULT_CLOUD_CONFIG
from kubeedge.cli.show import as_json, tree
from kubeedge.config import cloud, edge
from kubeedge.errors import Invalid, NotFound
from kubeedge.kit.dataclasses import dataclass
from kubeedge.store import sealing_keys, upkeep
from kubeedge.store.sealing import Key

_RESTART = "restart the agent or the cloud process: it encrypts anew with the first key of the file"


@dataclass(frozen=True, slots=True)
class _Side:
    """What the configuration of this machine's agent or cloud process says about sealing."""

    store: Path
    settings: edge.SecretsEncryption


def run(options: argparse.Namespace) -> int:
    """Exit status 1: `status` has found something wrong. Raises CommandError, Invalid, OSError."""
    side = _side(options)
    match options.verb:
        case "generate":
            return _generate(side, options)
        case "rotate":
            return _rotate(side, options)
        case "prune":
            return _prune(side, options)
        case _:
            return _status(side, options)


def _side(options: argparse.Namespace) -> _Side:
    root = Path(options.root_dir).absolute()
    paths = edge.at_root(root)
    of_edge, of_cloud = paths.pki.parent / "kubeedge.yaml", root / DEFAULT_CLOUD_CONFIG.removeprefix("/")
    if options.config:
        path = Path(options.config).absolute()
    else:
        path = of_edge if of_edge.exists() or not of_cloud.exists() else of_cloud
    if path == of_cloud or (options.config and cloud.KIND in path.read_text(errors="replace")):
        there = cloud.load(path)
        return _Side(there.paths.state / "cloud.db", there.secrets_encryption)
    config = edge.load(path) if path.exists() else edge.EdgeConfig(paths=paths)
    return _Side(config.paths.state / "edge.db", config.secrets_encryption)


def _file(side: _Side, options: argparse.Namespace) -> Path:
    if options.file:
        return Path(options.file).absolute()
    if side.settings.key_file is not None:
        return side.settings.key_file
    raise CommandError("no file was named, and the configuration has no secretsEncryption.keyFile", "name the file")


def _generate(side: _Side, options: argparse.Namespace) -> int:
    path, key = _file(side, options), sealing_keys.new_key()
    sealing_keys.write(path, [key])
    answer: dict[str, object] = {"file": str(path), "key": key.id.hex()}
    if _same_medium(path, side.store):
        answer["warning"] = "it is on the medium of the store: whoever has that has both"
    if side.settings.key_file != path and not side.settings.credential:
        answer["next"] = f"secretsEncryption: {{enable: true, keyFile: {path}}} in the configuration, and restart"
    _say(options, answer)
    return 0


def _rotate(side: _Side, options: argparse.Namespace) -> int:
    path, key = _file(side, options), sealing_keys.new_key()
    found = (key, *sealing_keys.read(path))
    if len(found) > sealing_keys.MAX_KEYS:
        raise CommandError(f"{path} has {sealing_keys.MAX_KEYS} keys", "kubeedge secrets-key prune")
    sealing_keys.write(path, found, replace=True)
    _say(options, {"file": str(path), "keys": _ids(found), "next": f"{_RESTART}; then: kubeedge secrets-key prune"})
    return 0


def _prune(side: _Side, options: argparse.Namespace) -> int:
    path = _file(side, options)
    found = sealing_keys.read(path)
    _, needed = upkeep.sealing(side.store)
    keep = [key for n, key in enumerate(found) if n == 0 or key.id.hex() in needed]
    removed = [key for key in found if key not in keep]
    if removed:
        sealing_keys.write(path, keep, replace=True)
    _say(options, {"file": str(path), "keys": _ids(keep), "removed": _ids(removed)})
    return 0


def _status(side: _Side, options: argparse.Namespace) -> int:
    settings = side.settings
    answer: dict[str, object] = {"store": str(side.store), "enabled": settings.enable}
    keys: tuple[Key, ...] = ()
    problems: list[str] = []
    try:
        # a credential is in memory that only its service sees
        path = settings.key_file
        keys = sealing_keys.read(path) if path is not None else ()
    except Invalid as exc:
        problems.append(str(exc))
    if settings.key_file is None and settings.credential:
        answer["credential"] = settings.credential
    elif settings.enable and settings.key_file is None:
        problems.append("secretsEncryption has neither keyFile nor credential")
    answer["keys"] = _ids(keys)
    try:
        found, needed = upkeep.sealing(side.store)
    except NotFound:
        found, needed = None, frozenset()
    answer["encryptedWith"] = found.key if found else ""
    answer["resources"] = sorted(found.resources) if found else []
    if not settings.credential and (missing := needed - {key.id.hex() for key in keys}):
        problems.append(f"the store needs keys that are not there: {', '.join(sorted(missing))}")
    if settings.enable and found is None and side.store.exists():
        problems.append(f"Secrets in the store are not encrypted; {_RESTART}")
    if settings.key_file is not None and _same_medium(settings.key_file, side.store):
        problems.append("the key is on the medium of the store: whoever has that has both")
    if found and (aside := [str(file) for file in upkeep.copies(side.store)]):
        answer["copies"] = aside
        problems.append("these copies may be older than the encryption: remove them when they are of no use")
    answer["problems"] = problems
    _say(options, answer)
    return 1 if problems else 0


def _same_medium(path: Path, store: Path) -> bool:
    """By file system; partitions of one card differ, and only the operator knows that."""
    try:
        return os.stat(path).st_dev == os.stat(store.parent).st_dev
    except OSError:
        return False


def _ids(found: tuple[Key, ...] | list[Key]) -> list[str]:
    return [key.id.hex() for key in found]


def _say(options: argparse.Namespace, answer: dict[str, object]) -> None:
    print(as_json(answer) if options.output == "json" else tree(answer))
