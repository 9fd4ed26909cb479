"""`kubeedge init`: make this machine the cloud side, or, with a kubeconfig, a cluster (cluster.py). Writes the configuration with its address and, where systemd runs, starts the service."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from kubeedge.cli import cluster, service
from kubeedge.cli.errors import CommandError, UsageError
from kubeedge.cli.parser import CLOUD_SOCKET, DEFAULT_CLOUD_CONFIG
from kubeedge.config import cloud, forms
from kubeedge.pki.files import write_secret


def run(options: argparse.Namespace) -> int:
    """The command: configuration, then the service or what to type instead; with a cluster, that one is asked instead of this machine."""
    if cluster.is_meant(options, Path(sys.argv[0]).name):
        return cluster.run(options)
    if os.geteuid() != 0:
        raise CommandError("the cloud side needs root: it makes a TUN device", "run the command as root")
    hosts = _hosts(options.advertise)
    path = Path(options.config or DEFAULT_CLOUD_CONFIG).absolute()
    config = _configured(path, hosts)
    named = "" if path == Path(DEFAULT_CLOUD_CONFIG) else str(path)
    if options.start and service.has_systemd():
        service.install_and_start(service.CLOUD, service.cloud_command(named))
        service.wait_until_it_answers(service.CLOUD, config.paths.run / "cloud.sock")
        print(f"{service.CLOUD.name} is started", file=sys.stderr)
    else:
        print(f"next: start the cloud with `kubeedge cloud{f' --config {named}' if named else ''}`", file=sys.stderr)
    socket = config.paths.run / "cloud.sock"
    suffix = "" if socket == Path(CLOUD_SOCKET) else f" --socket {socket}"
    for line in (
        f"next: export KUBECONFIG={config.paths.state}/kubeconfig-{next(iter(config.tenant_clusters), 'TENANT')}",
        f"next: `kubeedge token create --node NAME{suffix}` here, then `kubeedge join` on the machine that becomes node NAME",
    ):
        print(line, file=sys.stderr)
    return 0


def _hosts(texts: list[str]) -> tuple[str, ...]:
    hosts = tuple(host for text in texts for host in text.split(",") if host)
    try:
        for host in hosts:
            forms.host(host)
    except ValueError as exc:
        raise UsageError(f"{host!r} is not a name or an address: {exc}", "--advertise cloud.example.org") from exc
    return hosts


def _configured(path: Path, hosts: tuple[str, ...]) -> cloud.CloudConfig:
    """An existing configuration stays: it may have been edited by hand."""
    if path.exists():
        config = cloud.load(path)
        if missing := [host for host in hosts if host not in config.advertise]:
            raise CommandError(
                f"{path} exists and does not advertise {', '.join(missing)}",
                "change it, then run `kubeedge init` again",
            )
        return config
    if not hosts:
        raise UsageError("which address do nodes and kubectl use?", "kubeedge init --advertise HOST")
    config = cloud.CloudConfig(advertise=hosts)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_secret(path, cloud.default_yaml(config).encode())
    print(f"wrote {path}", file=sys.stderr)
    return config
