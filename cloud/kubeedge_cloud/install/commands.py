"""What `kubeedge init`, `upgrade`, `manifest`, `reset cloud`, `gettoken` and `debug` do in a cluster; `options` is the parsed command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from kubeedge.api.names import Object
from kubeedge.errors import Invalid, Refused, with_next
from kubeedge_cloud.install import apply, chart, diagnosis, remove, token
from kubeedge_cloud.install.cluster import TargetCluster
from kubeedge_cloud.install.functions import overlaid
from kubeedge_cloud.install.values import with_sets


def run(options: argparse.Namespace) -> int:
    """Exit status of the command. Raises KubeEdgeError."""
    match options.command:
        case "init" | "upgrade":
            return _install(options, must_exist=options.command == "upgrade")
        case "manifest":
            return _manifest(options)
        case "reset":
            return _reset(options)
        case "gettoken":
            return _gettoken(options)
    return _debug(options)


def say(line: str) -> None:
    """Progress goes to standard error: standard output is for results."""
    print(line, file=sys.stderr, flush=True)


def _cluster(options: argparse.Namespace) -> TargetCluster:
    return TargetCluster(Path(options.kube_config) if options.kube_config else None, options.context)


def _chart(options: argparse.Namespace) -> chart.Chart:
    return chart.load(Path(options.external_helm_root) if options.external_helm_root else None)


def _install(options: argparse.Namespace, *, must_exist: bool) -> int:
    request = apply.InstallRequest(
        namespace=options.namespace,
        values=values(options),
        manifests=manifests(options.manifests),
        anew=options.reset_values,
        must_exist=must_exist,
        force=options.force,
        dry_run=options.dry_run,
        check=not options.skip_preflight_checks,
        wait=options.timeout if options.wait else 0.0,
    )
    found = apply.Installer(_cluster(options), _chart(options), say).run(request)
    if not options.dry_run:
        for line in how_to_join(found, options):
            say(line)
    return 0


def how_to_join(found: Any, options: argparse.Namespace) -> list[str]:
    """The commands that join a machine to this installation, one a line."""
    ports = found["nodePorts" if found["expose"]["type"] == "NodePort" else "ports"]
    host, flags = found["advertise"][0], ""
    if options.kube_config:
        flags += f" --kube-config {options.kube_config}"
    if options.namespace != "kubeedge":
        flags += f" --namespace {options.namespace}"
    return [
        f"next: kubeedge gettoken{flags or ' --kube-config'} --node NAME",
        f"next: kubeedge join --name NAME --token TOKEN {f'[{host}]' if ':' in host else host}:{ports['bootstrap']}, on the "
        "machine that becomes node NAME",
    ]


def values(options: argparse.Namespace) -> dict[str, Any]:
    """The values of an installation: of the files, then of keadm's flags, then of --set. Raises Invalid."""
    result: dict[str, Any] = {}
    for name in options.values:
        document = _documents(name)
        if len(document) > 1:
            raise Invalid(f"{name} holds more than one document")
        result = overlaid(result, document[0] if document else {})
    hosts = [host for text in options.advertise for host in text.split(",") if host]
    image = {}
    if options.image_repository:
        image["repository"] = f"{options.image_repository.rstrip('/')}/cloud"
    profile = dict(text.partition("=")[::2] for text in (options.profile or "").split(",") if text)
    if unknown := set(profile) - {"version"}:
        raise Invalid(
            f"--profile {', '.join(sorted(unknown))}: only version=VERSION is known; everything else is --set"
        )
    if version := options.kubeedge_version or profile.get("version"):
        image["tag"] = version
    flags: dict[str, Any] = {**({"advertise": hosts} if hosts else {}), **({"image": image} if image else {})}
    return with_sets(overlaid(result, flags), options.set)


def manifests(names: Sequence[str]) -> list[Object]:
    """Objects of the user's files. Raises Invalid."""
    found: list[Object] = []
    for text in names:
        for name in filter(None, text.split(",")):
            for each in _documents(name):
                if not all(key in each for key in ("apiVersion", "kind", "metadata")):
                    raise Invalid(f"{name}: an object needs apiVersion, kind and metadata")
                found.append(each)
    return found


def _documents(name: str) -> list[dict[str, Any]]:
    try:
        found = [each for each in yaml.safe_load_all(Path(name).read_text(encoding="utf-8")) if each is not None]
    except (OSError, ValueError, yaml.YAMLError) as exc:
        raise Invalid(f"{name}: {' '.join(str(exc).split())}") from exc
    if not all(isinstance(each, dict) for each in found):
        raise Invalid(f"{name} holds something else than a map")
    return found


def _manifest(options: argparse.Namespace) -> int:
    """Write the objects of an installation to stdout as YAML, without asking a cluster."""
    found = _chart(options)
    objects = found.render(values(options), namespace=options.namespace, service=apply.SERVICE)
    for each in ([] if options.skip_crds else [*found.crds]) + objects + manifests(options.manifests):
        print("---")
        yaml.safe_dump(each, sys.stdout, sort_keys=False, width=10**6)
    return 0


def _reset(options: argparse.Namespace) -> int:
    cluster = _cluster(options)
    if not options.force:
        what = "and the data of all nodes " if options.delete_data else ""
        if not sys.stdin.isatty():
            raise with_next(Refused("reset cloud removes the cloud side from a cluster"), "say so with --force")
        asked = f"This removes the cloud side {what}from namespace {options.namespace} of {cluster.server}. Type 'yes' to go on: "
        if input(asked).strip() != "yes":
            raise Refused("nothing was changed")
    remove.remove(cluster, options.namespace, say, data=options.delete_data, timeout=options.timeout)
    return 0


def _gettoken(options: argparse.Namespace) -> int:
    arguments = ["--tenant", options.tenant, "--ttl", options.ttl, "-o", options.output]
    arguments += ["--node", options.node] if options.node else []
    arguments += ["--replace"] if options.replace else []
    print(token.create(_cluster(options), options.namespace, arguments))
    return 0


def _debug(options: argparse.Namespace) -> int:
    cluster = _cluster(options)
    say(f"{cluster.server} runs Kubernetes {cluster.version()}")
    if options.verb == "collect":
        path = Path(options.output_path or f"kubeedge-{options.namespace}.tar.gz")
        names = diagnosis.collect(cluster, options.namespace, path)
        print(f"{path}: {len(names)} files; Secrets are not in it, look through the rest before you send it")
        return 0
    found = diagnosis.reasons(cluster, options.namespace)
    for line in found:
        print(line)
    if not found:
        print("the cloud side is Ready")
    return 1 if found else 0
