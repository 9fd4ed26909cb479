"""`kubeedge join`: from a token to a node.

The key is written before the cloud is asked, and node.json after everything else. So a join that was interrupted, or whose answer was lost, can be
repeated with the same token for some minutes: the cloud knows the key again.

Lives elsewhere: the conversation with the cloud (kubeedge.pki.bootstrap), what this machine lacks (preflight.py), systemd (service.py).
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubeedge.agent import node_addresses
from kubeedge.api.names import node_name
from kubeedge.api.node_ipv6 import decode
from kubeedge.api.node_registration import NodeRegistration, parse
from kubeedge.cli import preflight, service
from kubeedge.cli.errors import CommandError, UsageError
from kubeedge.cli.show import as_json
from kubeedge.config import edge, forms, node_credentials
from kubeedge.errors import Invalid, Unavailable
from kubeedge.kit import private
from kubeedge.kubebus.l3 import netsetup
from kubeedge.pki import csr, tokens
from kubeedge.pki.bootstrap import Client
from kubeedge.pki.files import sync_directory, write_secret

DEFAULT_PORT = 10002
STATE_MARK = ".kubeedge"  # in the state directory: it is ours, and reset may remove it
_MAX_TOKEN = 1024
_RETRY = 1.0  # seconds
_WAIT = 30.0  # seconds
_APPROVAL = 5.0  # seconds between two questions of a board that waits for approval


def run(options: argparse.Namespace) -> int:
    """Exit status 0 once the node's files are written, or never with --run, when this process becomes the agent. Raises UsageError for
    a bad endpoint, token or name, CommandError when the cloud refuses or cannot be reached."""
    root = Path(options.root_dir).absolute()
    host, port = endpoint(options.cloud or options.cloudcore_ipport)
    try:
        token = tokens.parse(_token_text(options))
        name = node_name(options.name or _host_name()) if not options.serial else ""
        config = _config(edge.at_root(root))
        registration = _registration(options, config.node)
    except Invalid as exc:
        raise UsageError(str(exc)) from exc
    if options.serial and options.name:
        raise UsageError(
            "a board's name is said by whoever approves it", "leave out --name, or use a token for that node"
        )
    paths = edge.at_root(root)
    before = _before(node_credentials.credentials_path(paths), options.force)
    if name:
        _refuse_another(before, name)
    for warning in preflight.check(paths.state):
        print(f"warning: {warning}", file=sys.stderr)
    ask = _Asking(Client(host, port), token, name, paths.pki, registration, options.serial or "")
    answer, ca_pem = _until_answered(ask, options.wait)
    _refuse_another(before, answer["node"])
    _write(paths, ca_pem, answer)
    _report(options, answer, paths)
    for conflict in netsetup.conflicts(answer["address"], (answer.get("podNetwork") or answer["podCIDR"],)):
        if (
            conflict.interface != config.modules.appengine.bridge
        ):  # of an earlier join, which the agent gives its new network
            print(f"warning: {conflict}; `addresses` of the cloud chooses other ranges", file=sys.stderr)
    if options.run:
        sys.stdout.flush()
        command = service.agent_command(root)
        os.execv(command[0], command)
    if options.start and service.has_systemd():
        service.install_and_start(service.EDGE, service.agent_command(root))
        service.wait_until_it_answers(service.EDGE, paths.run / "edge.sock")
        print(f"{service.EDGE.name} is started", file=sys.stderr)
    else:
        suffix = "" if root == Path("/") else f" --root-dir {root}"
        print(
            f"next: start the agent with `kubeedge edge{suffix}`; one that runs already has to be restarted",
            file=sys.stderr,
        )
    return 0


def _token_text(options: argparse.Namespace) -> str:
    if options.token:
        return str(options.token)
    try:
        if options.token_file == "-":
            return sys.stdin.read(_MAX_TOKEN)
        with open(options.token_file, encoding="utf-8") as file:
            return file.read(_MAX_TOKEN)
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"cannot read the token: {exc}") from exc


def _host_name() -> str:
    return socket.gethostname().split(".")[0].lower()


def endpoint(text: str | None) -> tuple[str, int]:
    """Host and port of the cloud's bootstrap listener. Raises UsageError."""
    if not text:
        raise UsageError("where is the cloud?", "kubeedge join --token-file FILE HOST[:PORT]")
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        forms.host(bare)
        return bare, DEFAULT_PORT
    except ValueError:
        pass
    try:
        return forms.endpoint(text)
    except ValueError as exc:
        raise UsageError(f"{text!r} is not HOST or HOST:PORT") from exc


def _before(path: Path, force: bool) -> str:
    """The node that this machine is already, "" for none: a second join replaces credentials only when told to. Raises CommandError."""
    if not path.exists():
        return ""
    if not force:
        raise CommandError(
            f"this machine has joined already ({path} exists)",
            "run `kubeedge reset` first, or `kubeedge join --force` to get new credentials for the same node",
        )
    try:
        return str(node_credentials.load_credentials(path).node)
    except Invalid:
        return ""  # damaged: --force is what helps


def _refuse_another(before: str, name: str) -> None:
    """Nor does a join replace the identity under which state is kept. Raises CommandError."""
    if before and before != name:
        raise CommandError(
            f"the state of this machine belongs to node {before}, not to {name}",
            f"run `kubeedge reset` first, or join with `--name {before}`",
        )


def _config(paths: edge.Paths) -> edge.EdgeConfig:
    """An image may bring one with it. Raises Invalid."""
    path = paths.pki.parent / "kubeedge.yaml"
    return edge.load(path) if path.exists() else edge.EdgeConfig(paths=paths)


def _registration(options: argparse.Namespace, node: edge.NodeConfig) -> NodeRegistration:
    """Of the options, and before them of the configuration file. Raises Invalid."""
    labels = [label for text in options.label for label in text.split(",") if label]
    return parse([*node.labels, *labels], [*node.taints, *options.taint])


class _Asking:
    """One conversation with the cloud, which may be repeated. `serial`: of a board, whose name and token the cloud gives for a join key."""

    def __init__(
        self,
        client: Client,
        token: tokens.Token,
        name: str,
        pki: Path,
        registration: NodeRegistration,
        serial: str = "",
    ) -> None:
        self._client, self._token, self._name, self._pki = client, token, name, pki
        self._registration, self._serial = registration, serial
        private.directory(pki)

    def __call__(self) -> tuple[dict[str, Any], bytes]:
        """The answer and the CA certificate. Raises Unavailable, also for a board that nobody has approved yet."""
        token, name = self._token, self._name
        ca_pem = self._client.fetch_ca(token)
        key = _joining_key(self._pki)
        if self._serial:
            given = self._client.board(token, self._serial, csr.request_pem(key, "board"), ca_pem)
            if isinstance(given, str):
                raise Unavailable(
                    f"board {self._serial} waits for approval; its key is {given[:16]}: in the cloud, "
                    f"`kubeedge board approve {self._serial}`",
                    retry_after=_APPROVAL,
                )
            token, name = given
        answer = self._client.join(token, name, csr.request_pem(key, name), ca_pem, self._registration)
        node_credentials.credentials(_credentials(answer))
        return answer, ca_pem


def _until_answered(
    ask: Callable[[], tuple[dict[str, Any], bytes]], wait: float | None
) -> tuple[dict[str, Any], bytes]:
    """Ask until the cloud answers, for `wait` seconds, and say so; None: for a while, and not at an address where nothing listens."""
    deadline = time.monotonic() + (wait if wait is not None else _WAIT)
    told = False
    while True:
        try:
            return ask()
        except Unavailable as exc:
            pause = exc.retry_after or _RETRY
            if exc.permanent and wait is None:
                exc.add_note("check the address, and that `kubeedge cloud` runs there; `--wait SECONDS` waits for it")
                raise
            if time.monotonic() + pause > deadline:
                reached = exc.retry_after is not None  # somebody has answered, and says when to ask again
                advice = "" if reached else "check the address, and that its port can be reached from here; "
                exc.add_note(f"{advice}`--wait SECONDS` {'asks' if reached else 'tries'} for longer")
                raise
            if not told:
                print(f"{exc}; trying for {deadline - time.monotonic():.0f} s more", file=sys.stderr, flush=True)
                told = True
            time.sleep(pause)
        except Invalid as exc:
            if exc.path:
                raise CommandError(f"the cloud's answer cannot be used: {exc}") from exc
            raise


def _joining_key(pki: Path) -> csr.SigningKey:
    """The key of an earlier attempt, or a new one."""
    path = pki / "join.key"
    try:
        return csr.load_key(path.read_bytes())
    except (OSError, ValueError, TypeError):
        key = csr.new_key()
        write_secret(path, csr.key_pem(key))
        return key


def _credentials(answer: dict[str, Any]) -> dict[str, Any]:
    names = ("tenant", "node", "number", "address", "podCIDR", "podNetwork", "ipv6", "hub", "relays", "bootstrap")
    return {name: answer[name] for name in names if name in answer}


def _write(paths: edge.Paths, ca_pem: bytes, answer: dict[str, Any]) -> None:
    """The pair as a renewal writes it, so that trust.mend_pair finishes what a power cut interrupted; node.json last."""
    credentials_file = node_credentials.credentials_path(paths)
    certificate = answer.get("certificate")
    if not isinstance(certificate, str):
        raise CommandError("the cloud's answer has no certificate")
    private.directory(paths.state)
    write_secret(paths.state / STATE_MARK, b"The state of a KubeEdge node; `kubeedge reset` removes this directory.\n")
    write_secret(paths.pki / "ca.crt", ca_pem)
    write_secret(paths.pki / "node.key.next", (paths.pki / "join.key").read_bytes())
    write_secret(paths.pki / "node.crt", certificate.encode())
    (paths.pki / "node.key.next").replace(paths.pki / "node.key")
    sync_directory(paths.pki)
    config = paths.pki.parent / "kubeedge.yaml"
    if not config.exists():
        write_secret(config, edge.default_yaml(edge.EdgeConfig(paths=paths)).encode())
    values = _credentials(answer)
    node_addresses.save(credentials_file, decode(values.pop("ipv6", None)))
    write_secret(credentials_file, json.dumps(values, indent=2).encode() + b"\n")
    (paths.pki / "join.key").unlink()


def _report(options: argparse.Namespace, answer: dict[str, Any], paths: edge.Paths) -> None:
    if options.output == "json":
        print(as_json({**_credentials(answer), "credentials": str(node_credentials.credentials_path(paths))}))
    else:
        address = answer["address"].split("/")[0]
        print(f"node {answer['node']} of tenant {answer['tenant']} joined; overlay address {address}")
