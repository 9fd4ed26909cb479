"""A server of OPC-UA that nobody here wrote (asyncua), as a process: it takes seconds to start.

python -m tests.kit.opcua_server CERTIFICATE KEY        prints its port, ends when its input does
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

URI = "urn:kubeedge:tests"


def certificate(directory: Path, name: str, bits: int = 2048) -> tuple[str, str]:
    """(certificate, key), files with PEM."""
    cert, key = directory / f"{name}.pem", directory / f"{name}-key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", f"rsa:{bits}", "-nodes", "-days", "30", "-subj", f"/CN={name}",
         "-addext", f"subjectAltName=URI:{URI}:{name},IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE",
         "-addext", "keyUsage=digitalSignature,nonRepudiation,keyEncipherment,dataEncipherment",
         "-addext", "extendedKeyUsage=serverAuth,clientAuth", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    return str(cert), str(key)


def fingerprint(cert: str) -> str:
    """SHA-256 of a certificate, as openssl prints it."""
    argv = ["openssl", "x509", "-in", cert, "-noout", "-fingerprint", "-sha256"]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.partition("=")[2].strip()


@contextlib.contextmanager
def server_process(files: tuple[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """(process, url); it ends with the block."""
    argv = [sys.executable, "-m", "tests.kit.opcua_server", *files]
    root = Path(__file__).parents[2]
    with subprocess.Popen(argv, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            assert port, "the server has not started"
            yield process, f"opc.tcp://127.0.0.1:{port}/boiler"
        finally:
            process.kill()


async def main(cert: str, key: str) -> None:
    """Serves a boiler with every policy and every kind of user."""
    from asyncua import Server, ua
    from asyncua.crypto.permission_rules import User, UserRole
    from asyncua.server.user_managers import UserManager

    class Users(UserManager):
        def get_user(self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None) -> Any:
            """Alice has a password; whoever has no name is nobody in particular."""
            known = username is None or (username, password) == ("alice", "s3cret")
            return User(role=UserRole.User, name=username) if known else None

    server = Server(user_manager=Users())
    await server.init()
    server.set_endpoint("opc.tcp://127.0.0.1:0/boiler")
    await server.set_application_uri(f"{URI}:server")
    await server.load_certificate(cert)
    await server.load_private_key(key)
    kinds = ua.SecurityPolicyType
    server.set_security_policy(
        [
            kinds.NoSecurity,
            kinds.Basic256Sha256_Sign,
            kinds.Basic256Sha256_SignAndEncrypt,
            kinds.Aes128Sha256RsaOaep_Sign,
        ]
    )
    server.set_identity_tokens([ua.AnonymousIdentityToken, ua.UserNameIdentityToken, ua.X509IdentityToken])
    space = await server.register_namespace("urn:acme")
    for name, value, kind in (
        ("temperature", 21.5, ua.VariantType.Float),
        ("target", 20, ua.VariantType.Int16),
        ("running", False, ua.VariantType.Boolean),
        ("label", "boiler", ua.VariantType.String),
        ("raw", b"\x01\x02", ua.VariantType.ByteString),
        ("zones", [1, 2, 3], ua.VariantType.UInt32),
        ("pushed", 1.0, ua.VariantType.Double),
    ):
        node = ua.NodeId(f"Boiler.{name}", space)
        made = await server.nodes.objects.add_variable(node, name, value, varianttype=kind)
        if name != "label":
            await made.set_writable()
    async with server:
        print(server.bserver._server.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
