"""TLS of the public side: modern, and renewed without a restart."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
from pathlib import Path

import pytest

from kubeedge.api.names import NodeName, TenantId
from kubeedge.errors import Invalid, NotFound
from kubeedge.kit.http1 import Connection
from kubeedge.kit.tasks import cancel_and_wait
from kubeedge_cloud.certificates.filecertificate.module import FileCertificate, modern
from kubeedge_cloud.publishing.module import Publishing
from tests.kit.certs import TestAuthority


class Files:
    """A pair of files as certbot leaves them: links that lead to a new pair from time to time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = TestAuthority(directory)
        self.cert, self.key = directory / "live.crt", directory / "live.key"
        self.renew(1)

    def renew(self, n: int, *, key: bool = True) -> None:
        pair = self.authority.issue(f"web{n}", uri=f"spiffe://kubeedge/cloud/web{n}", hosts=["127.0.0.1"])
        for source, link in ((pair.cert, self.cert), (pair.key, self.key))[: 1 + key]:
            link.with_suffix(".next").unlink(missing_ok=True)
            link.with_suffix(".next").symlink_to(source)
            os.replace(link.with_suffix(".next"), link)


async def connect(tenant: TenantId, node: NodeName, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    raise NotFound("no such node")


async def name_shown(address: tuple[str, int], ca: Path, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> str:
    """The common name of the certificate that a client is shown, after one exchange."""
    context = ssl.create_default_context(cafile=str(ca))
    context.maximum_version = maximum
    context.set_alpn_protocols(["h2", "http/1.1"])
    reader, writer = await asyncio.open_connection(*address, ssl=context)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    client = Connection(reader, writer)
    assert (await client.request("GET", "/t1/n1/shop/")).status == 404
    subject = writer.get_extra_info("peercert")["subject"]
    await client.close()
    return str(dict(pair[0] for pair in subject)["commonName"])


def test_a_renewed_certificate_is_shown_without_a_restart_and_half_of_a_pair_is_not(tmp_path: Path) -> None:
    files = Files(tmp_path)
    certificate = FileCertificate(files.cert, files.key, "publishing.tls", name="publiccertificate", look=0.01)
    context = modern(certificate.context_for(None, minimum=ssl.TLSVersion.TLSv1_2))

    async def run() -> None:
        module = Publishing(address="127.0.0.1", port=0, connect=connect, tls=context)
        ready = asyncio.Event()
        running = [asyncio.create_task(module.run(ready)), asyncio.create_task(certificate.run(asyncio.Event()))]
        await asyncio.wait_for(ready.wait(), 60)
        assert module.address is not None
        ca = files.authority.issue("x", uri="spiffe://kubeedge/cloud/x").ca
        assert await name_shown(module.address, ca) == "web1"
        files.renew(2, key=False)
        await asyncio.sleep(0.05)
        assert await name_shown(module.address, ca, ssl.TLSVersion.TLSv1_2) == "web1"
        files.renew(3)
        async with asyncio.timeout(60):
            while await name_shown(module.address, ca) != "web3":
                await asyncio.sleep(0.01)
        for path in (files.cert, files.key):
            path.unlink()  # in the middle of a renewal by hand
        await asyncio.sleep(0.05)
        assert await name_shown(module.address, ca) == "web3"
        old = ssl.create_default_context(cafile=str(ca))
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError):
            await asyncio.open_connection(*module.address, ssl=old)
        await cancel_and_wait(*running)

    asyncio.run(run())


def test_a_pair_that_cannot_be_used_is_named_at_the_start(tmp_path: Path) -> None:
    files = Files(tmp_path)
    shutil.copy(files.cert, tmp_path / "key.pem")
    for cert, key in ((tmp_path / "none.crt", files.key), (files.cert, tmp_path / "key.pem")):
        with pytest.raises(Invalid, match=f"publishing.tls: {cert} and {key} cannot be used"):
            FileCertificate(cert, key, "publishing.tls", name="publiccertificate")
