"""`kubeedge store`: check, backup, restore, stats, of the agent's store or the cloud's (SQLite; etcd has tools of its own)."""

from __future__ import annotations

import argparse
from pathlib import Path

from kubeedge.cli import restored
from kubeedge.cli.errors import CommandError
from kubeedge.cli.show import as_json, tree
from kubeedge.errors import Invalid, KubeEdgeError, NotFound, Unavailable
from kubeedge.kit import dataclasses
from kubeedge.store import upkeep
from kubeedge.store.sqlite_file import CorruptStore

_EDGE, _CLOUD = "var/lib/kubeedge/edge/edge.db", "var/lib/kubeedge/cloud/cloud.db"


def run(options: argparse.Namespace) -> int:
    """Exit status 0. Raises CommandError for a store that is corrupt, missing, or in use by a process."""
    path = _store(options)
    try:
        match options.verb:
            case "check":
                return _check(path, options)
            case "backup":
                size = upkeep.backup(path, Path(options.file), replace=options.force)
                _say(options, {"store": str(path), "backup": options.file, "bytes": size})
            case "restore":
                _restore(_target(path, options), options)
            case _:
                _say(options, {"store": str(path), **dataclasses.asdict(upkeep.stats(path))})
    except CorruptStore as exc:
        raise CommandError(str(exc), _advice(path)) from exc
    except NotFound as exc:
        raise CommandError(str(exc), "name it with --store FILE") from exc
    except (Unavailable, Invalid) as exc:
        raise CommandError(str(exc), "stop the agent or the cloud process" if "in use" in str(exc) else "") from exc
    return 0


def _check(path: Path, options: argparse.Namespace) -> int:
    findings = list(upkeep.check(path))
    answer = {"store": str(path), "whole": not findings, "findings": findings}
    if findings:
        answer["next"] = _advice(path)
    _say(options, answer)
    return 1 if findings else 0


def _target(path: Path, options: argparse.Namespace) -> Path:
    """Where a backup belongs: to the side that it is of. Raises CommandError for the other side's store."""
    sides = {"edge": Path(options.root_dir) / _EDGE, "cloud": Path(options.root_dir) / _CLOUD}
    source = Path(options.file)
    try:
        side = upkeep.side(source)
    except CorruptStore as exc:
        raise CommandError(str(exc), "choose another backup") from exc
    if not options.store:
        if not side:
            raise CommandError(f"{source} does not contain whose backup it is", "name the store with --store FILE")
        return sides[side]
    try:
        there = upkeep.side(path)
    except (NotFound, CorruptStore):  # nothing is lost, and a corrupt store is what restoring is for
        return path
    if side and there and side != there:
        raise CommandError(
            f"{source} is a backup of the {side}'s store, and {path} is the {there}'s",
            f"the {side}'s is at {sides[side]}",
        )
    return path


def _restore(path: Path, options: argparse.Namespace) -> None:
    try:
        old = upkeep.restore(Path(options.file), path)
    except KubeEdgeError as exc:
        advice = "stop the agent or the cloud process first" if "in use" in str(exc) else "choose another backup"
        raise CommandError(str(exc), advice) from exc
    answer: dict[str, object] = {"store": str(path), "restoredFrom": options.file, "before": str(old) if old else ""}
    pki = path.parent / "pki"
    if upkeep.side(path) == "cloud":
        answer |= _let_in_again(old, path)
        if not (pki / "ca.key").exists():
            answer["next"] = f"restore {pki / 'ca.crt'} and {pki / 'ca.key'}, too: the nodes trust no other authority"
    _say(options, answer)


def _let_in_again(old: Path | None, path: Path) -> dict[str, object]:
    """What to say of kubeconfigs, tokens and machines that were ended after the backup."""
    wanted = restored.is_of_interest
    try:
        if old is None:
            raise NotFound("there was no store")
        found = restored.let_in_again(upkeep.values(old, wanted), upkeep.values(path, wanted))
    except KubeEdgeError:
        return {"validAgain": restored.UNKNOWN}
    return {"validAgain": list(found), "next": restored.NEXT} if found else {}


def _advice(path: Path) -> str:
    if path.name == "edge.db":
        return (
            "restart the agent: it sets the corrupt file aside and gets everything from the cloud; "
            "writes of `kubectl` on this node that the cloud has not seen are lost"
        )
    return f"stop the cloud process, then: kubeedge store restore --store {path} BACKUP"


def _store(options: argparse.Namespace) -> Path:
    if options.store:
        return Path(options.store)
    root = Path(options.root_dir)
    for name in (_EDGE, _CLOUD):
        if (root / name).exists():
            return root / name
    return root / _EDGE


def _say(options: argparse.Namespace, answer: dict[str, object]) -> None:
    print(as_json(answer) if options.output == "json" else tree(answer))
