"""The certificate authority of one installation.

What a certificate says is decided here: of a request only the public key is taken.
"""

from __future__ import annotations

import datetime
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubeedge.api.names import TenantId
from kubeedge.errors import Invalid
from kubeedge.kit import private
from kubeedge.pki import der
from kubeedge.pki.files import write_secret, write_whole
from kubeedge.pki.identity import Identity, UserIdentity
from kubeedge.pki.tokens import ca_hash
from kubeedge_cloud.authority import csr
from kubeedge_cloud.authority.token_keys import TokenKey

CA_DAYS = 3650
CERTIFICATE_DAYS = 365
MAX_REQUEST = 16 * 1024  # bytes of PEM; a request of ours has 400
_BACKDATE = datetime.timedelta(hours=1)  # clocks at the edge are slow


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """The parts of a certificate request that are used."""

    key: ec.EllipticCurvePublicKey
    fingerprint: str  # hex SHA-256 of the key


class Authority:
    """Loads ca.crt and ca.key from a directory, or makes them there."""

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.certificate_file = directory / "ca.crt"
        self._clock = clock
        key_file = directory / "ca.key"
        if not key_file.exists():
            if self.certificate_file.exists():
                raise Invalid(
                    f"{key_file} is missing beside {self.certificate_file}: restore it from a backup; or remove the "
                    "certificate to create a new authority, and join all nodes again"
                )
            private.directory(directory)
            write_secret(key_file, csr.key_pem(csr.new_key()))
        private.directory(directory)
        private.files(directory.glob("*.key*"))
        try:
            self._key = csr.load_key(key_file.read_bytes())
            if not self.certificate_file.exists():  # a new key, or a power cut between the two files
                write_whole(self.certificate_file, _self_signed(self._key, self._now()))
            self._certificate = x509.load_pem_x509_certificate(self.certificate_file.read_bytes())
        except (ValueError, TypeError) as exc:
            raise Invalid(f"the certificate authority in {directory} is damaged: {exc}") from exc
        if self._certificate.public_key() != self._key.public_key():
            raise Invalid(f"{key_file} is not the key of {self.certificate_file}: restore both from one backup")

    @property
    def pem(self) -> bytes:
        """The certificate of the authority, which every node trusts."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def hash(self) -> str:
        """Hex SHA-256 of its DER, as in bootstrap tokens."""
        return ca_hash(self._certificate.public_bytes(serialization.Encoding.DER))

    def token_key(self, tenant: TenantId) -> TokenKey:
        """The key that signs the service account tokens of a tenant."""
        return TokenKey(self._key, tenant)

    def issue_for_request(self, pem: bytes, identity: Identity) -> bytes:
        """A client certificate for the key of a request. Raises Invalid."""
        return self.issue(read_request(pem).key, identity, client=True)

    def issue(
        self,
        key: ec.EllipticCurvePublicKey,
        identity: Identity,
        *,
        client: bool = False,
        hosts: Sequence[str] = (),
        days: float = CERTIFICATE_DAYS,
    ) -> bytes:
        """PEM. `hosts` are the names and addresses of a server."""
        now = self._now()
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity.uri)]
        names += [csr.host_name(host) for host in hosts]
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH] if client else []
        usages += [ExtendedKeyUsageOID.SERVER_AUTH] if hosts else []
        if not usages:
            raise Invalid("a certificate for neither a client nor a server", path="hosts")
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, identity.common_name[:64])]
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
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def write_pair(
        self, cert: Path, key: Path, identity: Identity, *, client: bool = False, hosts: Sequence[str] = ()
    ) -> bool:
        """A new key and its certificate, unless there is a pair that still fits: same hosts, a third of its life left.

        Whether it was written. A power cut between the two files leaves a pair that does not fit.
        """
        if self.still_fits(cert, key, identity, hosts):
            return False
        new = csr.new_key()
        write_secret(key, csr.key_pem(new))
        write_whole(cert, self.issue(new.public_key(), identity, client=client, hosts=hosts))
        return True

    def verify(self, pem: bytes, *, grace: datetime.timedelta) -> x509.Certificate:
        """A certificate that we issued, not expired for longer than `grace`. Raises Invalid."""
        try:
            certificate = x509.load_pem_x509_certificate(pem)
            certificate.verify_directly_issued_by(self._certificate)
        except (ValueError, TypeError, InvalidSignature) as exc:
            raise Invalid("not a certificate of this cloud", path="certificate") from exc
        expired = self._now() - certificate.not_valid_after_utc
        if expired > grace:
            raise Invalid(f"it expired {expired.days} days ago, too long; join the node again", path="certificate")
        return certificate

    def still_fits(self, cert: Path, key: Path, identity: Identity, hosts: Sequence[str]) -> bool:
        """Whether a certificate in a file is ours, for this key, identity and these hosts, counts already, and has a third of its life left. One
        that begins later was made when the clock was ahead."""
        try:
            certificate = x509.load_pem_x509_certificate(cert.read_bytes())
            certificate.verify_directly_issued_by(self._certificate)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            if csr.load_key(key.read_bytes()).public_key() != certificate.public_key():
                return False
        except (OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return False
        wanted = {x509.UniformResourceIdentifier(identity.uri), *map(csr.host_name, hosts)}
        left = certificate.not_valid_after_utc - self._now()
        begun = certificate.not_valid_before_utc <= self._now()
        return set(names) == wanted and begun and left > datetime.timedelta(days=CERTIFICATE_DAYS / 3)

    def begins_later(self, cert: Path) -> bool:
        """Whether the certificate in a file does not count yet: it was made when the clock was ahead. False for what is none."""
        try:
            return der.validity(cert.read_bytes()).not_before > self._clock()
        except (OSError, ValueError, Invalid):
            return False

    def _now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self._clock(), datetime.UTC)


def read_request(pem: bytes) -> SigningRequest:
    """Raises Invalid when it is too large, no request, wrongly signed, or of another kind of key."""
    if len(pem) > MAX_REQUEST:
        raise Invalid(f"certificate request of {len(pem)} bytes; at most {MAX_REQUEST}", path="csr")
    try:
        request = x509.load_pem_x509_csr(pem)
        key = request.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
            raise ValueError("its key is not an elliptic-curve key on P-256 or P-384")
        if not request.is_signature_valid:
            raise ValueError("its signature is wrong")
    except (ValueError, TypeError, InvalidSignature, x509.UnsupportedGeneralNameType) as exc:
        raise Invalid(f"not a certificate request that can be used: {exc}", path="csr") from exc
    return SigningRequest(key, key_fingerprint(key))


def key_fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """Hex SHA-256 of a public key (SubjectPublicKeyInfo in DER)."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _self_signed(key: ec.EllipticCurvePrivateKey, now: datetime.datetime) -> bytes:
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
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)
