from __future__ import annotations

import asyncio
import datetime
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubeedge import faults
from kubeedge.api.names import NodeName, TenantId
from kubeedge.errors import Invalid
from kubeedge.pki import csr as node_csr
from kubeedge.pki import files, trust
from kubeedge.pki.identity import CloudIdentity, NodeIdentity, UserIdentity, of_peer
from kubeedge_cloud.authority import csr
from kubeedge_cloud.authority.ca import MAX_REQUEST, Authority, read_request

EDGE1 = NodeIdentity(TenantId("default"), NodeName("edge1"))
NOW = 1_800_000_000.0


def test_an_authority_is_made_once_and_found_again(tmp_path: Path):
    first, second = Authority(tmp_path / "pki"), Authority(tmp_path / "pki")
    assert first.hash == second.hash and len(first.hash) == 64
    assert stat.S_IMODE((tmp_path / "pki" / "ca.key").stat().st_mode) == 0o600


def test_a_power_cut_while_the_authority_is_made_costs_nothing(tmp_path: Path):
    class PowerCut(BaseException):
        pass

    writes = []

    def cut():
        writes.append(1)
        if len(writes) == 2:  # the key is there, the certificate is not
            raise PowerCut

    faults.arm("pki.files.before_rename", cut)
    try:
        with pytest.raises(PowerCut):
            Authority(tmp_path)
    finally:
        faults.disarm()
    assert Authority(tmp_path).hash == Authority(tmp_path).hash
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ca.crt", "ca.key"]


def test_a_lost_or_foreign_key_is_never_replaced_silently(tmp_path: Path):
    Authority(tmp_path / "a")
    Authority(tmp_path / "b")
    (tmp_path / "a" / "ca.key").rename(tmp_path / "ca.key")
    with pytest.raises(Invalid, match="restore it from a backup"):
        Authority(tmp_path / "a")
    (tmp_path / "b" / "ca.key").rename(tmp_path / "a" / "ca.key")
    with pytest.raises(Invalid, match="is not the key of"):
        Authority(tmp_path / "a")
    (tmp_path / "a" / "ca.key").write_bytes(b"garbage")
    with pytest.raises(Invalid, match="damaged"):
        Authority(tmp_path / "a")


def greedy_request(key) -> bytes:
    """Asks to be a certificate authority, the cloud, and another tenant's node."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubeedge")]))
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier(CloudIdentity("cloud").uri), x509.DNSName("cloud.example")]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def test_of_a_request_only_the_key_is_taken(tmp_path: Path):
    key = csr.new_key()
    authority = Authority(tmp_path, clock=lambda: NOW)
    made = x509.load_pem_x509_certificate(authority.issue_for_request(greedy_request(key), EDGE1))
    assert made.public_key() == key.public_key()
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [n.value for n in names] == ["spiffe://kubeedge/tenant/default/node/edge1"]
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert list(made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]
    assert made.subject.rfc4514_string() == "CN=edge1"
    assert made.not_valid_before_utc.timestamp() == NOW - 3600
    assert made.not_valid_after_utc.timestamp() == NOW + 365 * 86400


def test_a_user_belongs_to_the_tenant(tmp_path: Path):
    user = UserIdentity(TenantId("acme"), "admin")
    made = x509.load_pem_x509_certificate(Authority(tmp_path).issue(csr.new_key().public_key(), user, client=True))
    assert made.subject.rfc4514_string() == "O=acme,CN=admin"


def request_with(key) -> bytes:
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def forged_request() -> bytes:
    pem = node_csr.request_pem(node_csr.new_key(), "x")
    der = bytearray(x509.load_pem_x509_csr(pem).public_bytes(serialization.Encoding.DER))
    der[-3] ^= 1  # in the signature
    return (
        b"-----BEGIN CERTIFICATE REQUEST-----\n"
        + __import__("base64").encodebytes(bytes(der))
        + b"-----END CERTIFICATE REQUEST-----\n"
    )


@pytest.mark.parametrize(
    ("pem", "message"),
    [
        (b"", "not a certificate request"),
        (b"null", "not a certificate request"),
        (
            b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
            "not a certificate request",
        ),
        (b"x" * (MAX_REQUEST + 1), "at most 16384"),
        (request_with(rsa.generate_private_key(public_exponent=65537, key_size=2048)), "not an elliptic-curve key"),
        (forged_request(), "its signature is wrong"),
        (request_with(ec.generate_private_key(ec.SECP521R1())), "P-256 or P-384"),
    ],
    ids=["empty", "null", "short", "long", "rsa", "forged", "p521"],
)
def test_a_bad_request_is_invalid(pem, message):
    with pytest.raises(Invalid, match=message):
        read_request(pem)


def test_a_server_pair_is_kept_while_it_fits_and_replaced_when_it_does_not(tmp_path: Path):
    now = [NOW]
    authority = Authority(tmp_path, clock=lambda: now[0])
    cert, key, cloud = tmp_path / "s.crt", tmp_path / "s.key", CloudIdentity("cloud")

    def write(*hosts: str, who: CloudIdentity = cloud) -> bool:
        return authority.write_pair(cert, key, who, client=True, hosts=hosts)

    assert write("203.0.113.2")
    assert not write("203.0.113.2")
    assert write("203.0.113.2", "cloud.example"), "another name"
    assert not write("cloud.example", "203.0.113.2")
    assert write("cloud.example", "203.0.113.2", who=CloudIdentity("cloud2")), "another identity"
    now[0] += 240 * 86400
    assert not write("cloud.example", "203.0.113.2", who=CloudIdentity("cloud2"))
    now[0] += 10 * 86400
    assert write("cloud.example", "203.0.113.2", who=CloudIdentity("cloud2")), "less than a third of its life left"
    files.write_secret(key, csr.key_pem(csr.new_key()))
    assert write("cloud.example", "203.0.113.2", who=CloudIdentity("cloud2")), "a power cut between the two files"
    now[0] -= 7200
    assert authority.begins_later(cert)
    assert write("cloud.example", "203.0.113.2", who=CloudIdentity("cloud2")), "it was made when the clock was ahead"
    assert not authority.begins_later(cert) and not authority.begins_later(tmp_path / "none")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert trust.fits(cert, key)


def test_only_our_own_certificates_verify_and_only_for_a_season_after_they_expired(tmp_path: Path):
    now = [NOW]
    ours, theirs = Authority(tmp_path / "a", clock=lambda: now[0]), Authority(tmp_path / "b", clock=lambda: now[0])
    grace = datetime.timedelta(days=90)
    pem = ours.issue(csr.new_key().public_key(), EDGE1, client=True)
    assert ours.verify(pem, grace=grace)
    with pytest.raises(Invalid, match="not a certificate of this cloud"):
        theirs.verify(pem, grace=grace)
    with pytest.raises(Invalid, match="not a certificate of this cloud"):
        ours.verify(b"garbage", grace=grace)
    now[0] += (365 + 89) * 86400
    assert ours.verify(pem, grace=grace)
    now[0] += 2 * 86400
    with pytest.raises(Invalid, match="expired 91 days ago, too long; join the node again"):
        ours.verify(pem, grace=grace)


def node_pair(authority: Authority, directory: Path, identity: NodeIdentity = EDGE1) -> tuple[Path, Path]:
    key = node_csr.new_key()
    cert_file, key_file = directory / "node.crt", directory / "node.key"
    cert_file.write_bytes(authority.issue_for_request(node_csr.request_pem(key, "x"), identity))
    files.write_secret(key_file, node_csr.key_pem(key))
    return cert_file, key_file


async def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "127.0.0.1"):
    """What each side saw: (identity of the client at the server, None) or the client's error."""
    seen: asyncio.Future = asyncio.get_running_loop().create_future()

    async def connected(reader, writer):
        seen.set_result(writer.get_extra_info("peercert"))
        writer.write(b"x")
        writer.close()
        await writer.wait_closed()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=server)
    try:
        port = listener.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=name)
        try:
            assert await reader.readexactly(1) == b"x"
        finally:
            writer.close()
        return await seen
    finally:
        listener.close()
        await listener.wait_closed()


def test_mutual_tls_shows_who_the_node_is(tmp_path: Path):
    authority = Authority(tmp_path)
    cert, key = tmp_path / "s.crt", tmp_path / "s.key"
    authority.write_pair(cert, key, CloudIdentity("cloud"), hosts=["127.0.0.1", "cloud.example"])
    ca = authority.certificate_file
    server = trust.server_context(cert, key, client_ca=ca)
    good = trust.client_context(ca, *node_pair(authority, tmp_path))
    assert of_peer(asyncio.run(handshake(server, good))) == EDGE1
    assert of_peer(asyncio.run(handshake(server, good, "cloud.example"))) == EDGE1


def test_unknown_and_false_certificates_are_refused_by_tls(tmp_path: Path):
    authority, other = Authority(tmp_path / "a"), Authority(tmp_path / "b")
    cert, key = tmp_path / "s.crt", tmp_path / "s.key"
    authority.write_pair(cert, key, CloudIdentity("cloud"), hosts=["127.0.0.1"])
    ca = authority.certificate_file
    server = trust.server_context(cert, key, client_ca=ca)

    nobody = trust.client_context(ca)
    foreign_pair = node_pair(other, tmp_path / "b")
    foreign = trust.client_context(ca, *foreign_pair)
    for context in (nobody, foreign):
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            asyncio.run(handshake(server, context))
    with pytest.raises(ssl.SSLCertVerificationError):  # another cloud at the same address
        asyncio.run(handshake(server, trust.client_context(other.certificate_file)))
    with pytest.raises(ssl.SSLCertVerificationError):  # another name
        asyncio.run(handshake(server, trust.client_context(ca), "example.org"))
    # a node's certificate does not make a server
    as_server = trust.server_context(*node_pair(authority, tmp_path / "a"), client_ca=None)
    with pytest.raises(ssl.SSLCertVerificationError):
        asyncio.run(handshake(as_server, trust.client_context(ca)))
