"""`python -m kubeedge.pki.renew PKI_DIR HOST:PORT...`: renew the certificate of this node, then end.

A process of its own, because the agent does not carry an HTTP client that blocks. Exit status: 0 renewed, 1 try again later, 3 the cloud refuses.
Nothing is replaced before the new certificate is here and fits; a power cut in between is mended by trust.mend_pair.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Sequence
from pathlib import Path

from kubeedge import faults
from kubeedge.config.forms import endpoint
from kubeedge.errors import KubeEdgeError, Refused, Unavailable
from kubeedge.pki import csr, der, trust
from kubeedge.pki.bootstrap import Client
from kubeedge.pki.files import sync_directory, write_secret

EXIT_RETRY, EXIT_REFUSED = 1, 3


def renew(pki: Path, client: Client) -> None:
    """Raises KubeEdgeError or OSError, the old pair untouched."""
    trust.mend_pair(pki)
    ca, old_certificate = (pki / "ca.crt").read_bytes(), (pki / "node.crt").read_bytes()
    try:
        old_key = csr.load_key((pki / "node.key").read_bytes())
    except (ValueError, TypeError) as exc:
        raise Refused(f"{pki / 'node.key'} is damaged ({exc}); join the node again") from exc
    key = csr.new_key()
    request = csr.request_pem(key, "renewal")
    nonce = client.nonce(ca)
    signature = base64.b64encode(csr.sign(old_key, nonce.encode() + request)).decode()
    certificate = client.renew(old_certificate, request, nonce, signature, ca)
    try:
        if not csr.belongs(key, certificate):
            raise ValueError("it is for another key")
        der.validity(certificate)
    except ValueError as exc:
        raise Unavailable(f"the cloud sent a certificate that cannot be used: {exc}") from exc
    write_secret(pki / "node.key.next", csr.key_pem(key))
    faults.at("pki.renew.before_certificate")
    write_secret(pki / "node.crt", certificate)
    faults.at("pki.renew.between")
    (pki / "node.key.next").replace(pki / "node.key")
    sync_directory(pki)


def main(arguments: Sequence[str]) -> int:
    """The helper's exit status: 0, EXIT_RETRY or EXIT_REFUSED; the reasons go to stderr."""
    if len(arguments) < 2:
        print("usage: python -m kubeedge.pki.renew PKI_DIR HOST:PORT...", file=sys.stderr)
        return 2
    pki, *clouds = arguments
    status = EXIT_RETRY
    for cloud in clouds:
        try:
            renew(Path(pki), Client(*endpoint(cloud)))
        except Refused as exc:
            status = EXIT_REFUSED
            print(f"{cloud}: {exc}", file=sys.stderr)
        except (KubeEdgeError, OSError, ValueError) as exc:
            print(f"{cloud}: {exc}", file=sys.stderr)
        else:
            return 0
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
