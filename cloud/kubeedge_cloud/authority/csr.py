"""Keys, serving certificates and requests for them, with the cryptography library, which only the cloud has."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def new_key() -> ec.EllipticCurvePrivateKey:
    """An EC key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS #8 without a password: it belongs into a file of mode 0600."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Raises ValueError for anything but an EC key without a password."""
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an elliptic-curve key")
    return key


def serving_request_pem(
    key: ec.EllipticCurvePrivateKey, name: str, organizations: Sequence[str], hosts: Sequence[str]
) -> bytes:
    """A PKCS#10 request of a server, for an issuer that takes the subject and the names from it. Raises ValueError for a name of more than
    64 characters (RFC 5280)."""
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization) for organization in organizations]
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([*subject, x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .add_extension(x509.SubjectAlternativeName([host_name(host) for host in hosts]), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def host_name(host: str) -> x509.GeneralName:
    """An address or a DNS name, as a certificate names it."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def serves(certificate_pem: bytes, hosts: Collection[str]) -> bool:
    """Whether a server may show that certificate under each of these names and addresses. Raises ValueError for what is no certificate."""
    try:
        return _names_all(x509.load_pem_x509_certificate(certificate_pem).extensions, hosts)
    except _UNREADABLE as exc:
        raise ValueError(str(exc)) from exc


def asks_for(request_pem: bytes, hosts: Collection[str]) -> bool:
    """Whether that request is for each of these names and addresses. Raises ValueError for what is no request."""
    return _names_all(x509.load_pem_x509_csr(request_pem).extensions, hosts)


def _names_all(extensions: x509.Extensions, hosts: Collection[str]) -> bool:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return not hosts
    return {host_name(host) for host in hosts} <= set(names)


#: what the library says of a certificate that it cannot read, besides ValueError
_UNREADABLE = (TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)


def belongs(key: ec.EllipticCurvePrivateKey, certificate_pem: bytes) -> bool:
    """Whether that certificate was made for this key. Raises ValueError for what is no certificate."""
    try:
        return x509.load_pem_x509_certificate(certificate_pem).public_key() == key.public_key()
    except _UNREADABLE as exc:
        raise ValueError(str(exc)) from exc
