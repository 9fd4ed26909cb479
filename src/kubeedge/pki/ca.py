"""The certificate authority of one installation. Runs in the cloud.

What a certificate says is decided here: of a request only the public key is taken.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubeedge.errors import Invalid
from kubeedge.pki import csr
from kubeedge.pki.identity import Identity, UserIdentity
from kubeedge.pki.tokens import ca_hash

CA_DAYS = 3650
CERTIFICATE_DAYS = 365
MAX_REQUEST = 16 * 1024  # bytes of PEM
_BACKDATE = datetime.timedelta(hours=1)  # clocks at the edge are slow


class Authority:
    """Loads ca.crt and ca.key from a directory, or makes them there."""

    def __init__(self, directory: Path) -> None:
        self.certificate_file = directory / "ca.crt"
        key_file = directory / "ca.key"
        if not key_file.exists():
            _create(self.certificate_file, key_file)
        self._key = csr.load_key(key_file.read_bytes())
        self._certificate = x509.load_pem_x509_certificate(self.certificate_file.read_bytes())

    @property
    def pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def hash(self) -> str:
        return ca_hash(self._certificate.public_bytes(serialization.Encoding.DER))

    def issue_for_request(self, pem: bytes, identity: Identity) -> bytes:
        """A client certificate for the key of a request. Raises Invalid."""
        if len(pem) > MAX_REQUEST:
            raise Invalid(f"certificate request of {len(pem)} bytes; at most {MAX_REQUEST}", path="csr")
        try:
            request = x509.load_pem_x509_csr(pem)
            key = request.public_key()
            if not request.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey):
                raise ValueError("its signature is wrong, or its key is not an elliptic-curve key")
        except (ValueError, TypeError, InvalidSignature) as exc:
            raise Invalid(f"not a certificate request: {exc}", path="csr") from exc
        return self.issue(key, identity, client=True)

    def issue(
        self,
        key: ec.EllipticCurvePublicKey,
        identity: Identity,
        *,
        client: bool = False,
        hosts: Sequence[str] = (),
        days: int = CERTIFICATE_DAYS,
    ) -> bytes:
        """PEM. `hosts` are the names and addresses of a server."""
        now = datetime.datetime.now(datetime.UTC)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity.uri)]
        for host in hosts:
            try:
                names.append(x509.IPAddress(ipaddress.ip_address(host)))
            except ValueError:
                names.append(x509.DNSName(host))
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH] if client else []
        usages += [ExtendedKeyUsageOID.SERVER_AUTH] if hosts else []
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, identity.uri.rsplit("/", 1)[1][:64])]
        if isinstance(identity, UserIdentity):
            subject.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, str(identity.tenant)))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(subject))
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATE)
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def write_pair(
        self, cert: Path, key: Path, identity: Identity, *, client: bool = False, hosts: Sequence[str] = ()
    ) -> None:
        """A new key and its certificate, unless there is a pair that still fits: same hosts, a third of its life left."""
        if key.exists() and cert.exists() and self._still_fits(cert, hosts):
            return
        new = csr.new_key()
        write_secret(key, csr.key_pem(new))
        cert.write_bytes(self.issue(new.public_key(), identity, client=client, hosts=hosts))

    def verify(self, pem: bytes, *, grace: datetime.timedelta) -> x509.Certificate:
        """A certificate that we issued, not expired for longer than `grace`. Raises Invalid."""
        try:
            certificate = x509.load_pem_x509_certificate(pem)
            certificate.verify_directly_issued_by(self._certificate)
        except (ValueError, TypeError, InvalidSignature) as exc:
            raise Invalid("not a certificate of this cloud", path="certificate") from exc
        if certificate.not_valid_after_utc + grace < datetime.datetime.now(datetime.UTC):
            raise Invalid("the certificate expired too long ago; join the node again", path="certificate")
        return certificate

    def _still_fits(self, path: Path, hosts: Sequence[str]) -> bool:
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
            certificate.verify_directly_issued_by(self._certificate)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return False
        have = {str(n.value) for n in names if isinstance(n, x509.DNSName | x509.IPAddress)}
        left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
        return have == set(hosts) and left > datetime.timedelta(days=CERTIFICATE_DAYS / 3)


def write_secret(path: Path, data: bytes) -> None:
    """Mode 0600 from the first byte on, whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(path)


def _create(certificate_file: Path, key_file: Path) -> None:
    key = csr.new_key()
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubeedge")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + datetime.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
                key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    certificate_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    write_secret(key_file, csr.key_pem(key))
