"""Which certificate a kubelet port shows: files that are renewed, and nodes that have one of their own."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

from kubeedge.api.names import NodeName
from kubeedge_cloud.certificates.filecertificate.module import FileCertificate
from kubeedge_cloud.kubelets import contexts
from kubeedge_cloud.kubelets.contexts import PortContexts, PortTls
from tests.kit.certs import TestAuthority

HOST = "203.0.113.1"


def shown(server: ssl.SSLContext, ca: Path) -> str:
    """The common name that a client sees, over buffers in memory."""
    client = ssl.create_default_context(cafile=str(ca))
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(back, there, server_hostname=HOST)
    theirs = server.wrap_bio(there, back, server_side=True)
    for _ in range(3):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
    return str(dict(pair[0] for pair in (ours.getpeercert() or {})["subject"])["commonName"])


def pair(authority: TestAuthority, name: str) -> Path:
    """Key and certificate in one file."""
    issued = authority.issue(name, hosts=[HOST])
    path = authority.directory / f"{name}.pem"
    path.write_bytes(issued.key.read_bytes() + issued.cert.read_bytes())
    return path


def test_a_certificate_in_files_is_shown_anew_at_the_next_connection(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)
    first, second = (authority.issue(name, hosts=[HOST]) for name in ("first", "second"))
    files = FileCertificate(first.cert, first.key, "kubelets.certFile", name="kubeletcertificate")
    tls = PortTls(None, files)
    assert tls.context("") is None
    made = tls.context(authority.ca.read_text())
    assert made is not None
    made.verify_mode = ssl.CERT_OPTIONAL
    assert shown(made, authority.ca) == "first"
    os.replace(second.key, first.key)
    assert not files.refresh()  # cert-manager writes one file after the other
    os.replace(second.cert, first.cert)
    assert files.refresh() and shown(made, authority.ca) == "second"


def test_a_node_shows_its_own_and_contexts_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "_MOST", 2)
    authority = TestAuthority(tmp_path)
    common = authority.issue("common", hosts=[HOST])
    tls = PortTls(None, FileCertificate(common.cert, common.key, "x", name="x"))
    own = {NodeName(name): pair(authority, name) for name in ("a", "b", "c")}
    made: list[Path | None] = []

    def make(file: Path | None) -> ssl.SSLContext:
        made.append(file)
        context = tls.context(authority.ca.read_text(), file)
        assert context is not None
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    of = PortContexts(make, own.get)
    assert shown(of.of(NodeName("nobody")), authority.ca) == "common"
    for name in ("a", "b", "a", "c", "a"):
        assert shown(of.of(NodeName(name)), authority.ca) == name
    assert [path.stem if path else "" for path in made] == ["", "a", "b", "c"]  # a was used, b gave way
    own[NodeName("a")] = pair(authority, "renewed")
    assert shown(of.of(NodeName("a")), authority.ca) == "a"
    of.forget(NodeName("a"))
    assert shown(of.of(NodeName("a")), authority.ca) == "renewed"
