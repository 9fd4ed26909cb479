"""`kubeedge join`: from a token to a node.

The CA certificate comes over plain HTTP and must have the hash that the token holds; everything after it is TLS that trusts this CA alone.
"""

from __future__ import annotations

import argparse
import email.utils
import http.client
import json
import os
import shutil
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any

from kubeedge.api.names import node_name
from kubeedge.cli.control import CommandError
from kubeedge.config import edge
from kubeedge.errors import Invalid
from kubeedge.pki import tokens

DEFAULT_PORT = 10002
_PATIENCE = 15.0  # seconds for one answer
_MAX_ANSWER = 64 * 1024
_CLOCK_TOLERANCE = 1800.0  # seconds; certificates are backdated by an hour


def run(options: argparse.Namespace) -> int:
    root = Path(options.root_dir)
    token = tokens.parse(_token_text(options))
    name = node_name(options.name or socket.gethostname().split(".")[0].lower())
    host, port = _endpoint(options.cloud)
    paths = edge.at_root(root)
    credentials = paths.pki.parent / "node.json"
    if credentials.exists() and not options.force:
        raise CommandError(
            f"this machine has joined already ({credentials} exists)",
            "run `kubeedge reset` first, or `kubeedge join --force` to replace its credentials",
        )
    _preflight()
    ca_pem = _fetch_ca(host, port, token)
    answer, key_pem = _join(host, port, token, name, ca_pem)
    _write(paths, credentials, ca_pem, key_pem, answer, root)
    print(
        f"node {answer['node']} of tenant {answer['tenant']} joined; overlay address {answer['address'].split('/')[0]}"
    )
    arguments = [sys.executable, "-m", "kubeedge", "edge"]
    if root != Path("/"):
        arguments += ["--root-dir", str(root)]
    sys.stdout.flush()
    if options.run:
        os.execv(sys.executable, arguments)
    print(f"next: start the agent with `kubeedge edge{'' if root == Path('/') else f' --root-dir {root}'}`")
    return 0


def _token_text(options: argparse.Namespace) -> str:
    if options.token:
        return str(options.token)
    if options.token_file == "-":
        return sys.stdin.read(1024)
    try:
        with open(options.token_file) as file:
            return file.read(1024)
    except OSError as exc:
        raise CommandError(f"cannot read the token: {exc}") from exc


def _endpoint(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        return text, DEFAULT_PORT
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise CommandError(f"{text!r} is not HOST or HOST:PORT")
    return host.strip("[]"), int(port)


def _preflight() -> None:
    """What would fail later, said now."""
    if os.geteuid() != 0:
        raise CommandError("an agent needs root: it makes a TUN device and runs containers", "run it as root")
    if not os.path.exists("/dev/net/tun"):
        print("warning: /dev/net/tun is missing; KubeBus will not work (modprobe tun)", file=sys.stderr)
    for program, package in (("conmon", "conmon"), ("crun", "crun")):
        if not shutil.which(program) and not (program == "crun" and shutil.which("runc")):
            print(
                f"warning: {program} is missing; containers will not start (apt-get install {package})", file=sys.stderr
            )


def _fetch_ca(host: str, port: int, token: tokens.Token) -> bytes:
    connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/ca.crt")
        response = connection.getresponse()
        pem = response.read(_MAX_ANSWER)
        _check_clock(response.getheader("date"))
    except CommandError:
        raise
    except (OSError, http.client.HTTPException) as exc:
        raise CommandError(
            f"cannot reach the cloud at {host}:{port}: {exc}", "check the address, and that the port is open"
        ) from exc
    finally:
        connection.close()
    try:
        der = ssl.PEM_cert_to_DER_cert(pem.decode("ascii"))
    except ValueError as exc:
        raise CommandError(f"{host}:{port} does not answer like a cloud of ours") from exc
    if tokens.ca_hash(der) != token.ca_hash:
        raise CommandError(
            f"the CA certificate of {host}:{port} is not the one that the token names: this is another cloud, or somebody "
            "in between",
            "check the address; if it is right, make a new token there",
        )
    return pem


def _check_clock(date: str | None) -> None:
    """Certificates are worthless to a machine that lives in another year."""
    parsed = email.utils.parsedate_to_datetime(date).timestamp() if date else None
    if parsed is None:
        return
    off = time.time() - parsed
    if abs(off) > _CLOCK_TOLERANCE:
        days = abs(off) / 86400
        amount = f"{days:.0f} days" if days >= 2 else f"{abs(off) / 3600:.1f} hours"
        raise CommandError(
            f"the clock of this machine is {amount} {'ahead of' if off > 0 else 'behind'} the cloud's",
            "set it (for example with `date -s`, or let NTP do it), then join again",
        )


def _join(host: str, port: int, token: tokens.Token, name: str, ca_pem: bytes) -> tuple[dict[str, Any], bytes]:
    from kubeedge.pki import csr  # heavy

    key = csr.new_key()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=ca_pem.decode("ascii"))
    connection = http.client.HTTPSConnection(host, port, timeout=_PATIENCE, context=context)
    try:
        body = json.dumps({"node": name, "csr": csr.request_pem(key, name).decode()})
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        connection.request("POST", "/v1/join", body, headers)
        response = connection.getresponse()
        answer = json.loads(response.read(_MAX_ANSWER))
        if response.status != 200:
            raise CommandError(str(answer.get("error", response.reason)))
        edge.build(edge.NodeCredentials, _credentials(answer))
        return answer, csr.key_pem(key)
    except ssl.SSLCertVerificationError as exc:
        raise CommandError(
            f"the cloud's certificate is not for {host}: {exc.verify_message}",
            f"use a name that the cloud advertises, or add {host} to `advertise` in its configuration",
        ) from exc
    except (OSError, http.client.HTTPException, ValueError, Invalid, KeyError) as exc:
        raise CommandError(f"joining at {host}:{port} failed: {exc}") from exc
    finally:
        connection.close()


def _credentials(answer: dict[str, Any]) -> dict[str, Any]:
    names = ("tenant", "node", "number", "address", "podCIDR", "hub", "relays", "bootstrap")
    return {name: answer[name] for name in names}


def _write(
    paths: edge.Paths, credentials: Path, ca_pem: bytes, key_pem: bytes, answer: dict[str, Any], root: Path
) -> None:
    """Credentials last: node.json means that everything else is there."""
    from kubeedge.pki.ca import write_secret

    paths.pki.mkdir(parents=True, exist_ok=True, mode=0o700)
    paths.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_secret(paths.pki / "node.key", key_pem)
    write_secret(paths.pki / "ca.crt", ca_pem)
    write_secret(paths.pki / "node.crt", answer["certificate"].encode())
    config = paths.pki.parent / "kubeedge.yaml"
    if not config.exists():
        write_secret(config, edge.default_yaml(edge.EdgeConfig(paths=paths)).encode())
    write_secret(credentials, json.dumps(_credentials(answer), indent=2).encode() + b"\n")
