"""Certificates of pods (podCertificate sources of projected volumes): who asks for which, and what nodes and the cloud say of them. Pure.

The key of a pod is made on its node and never leaves it. Of each pod there may be three rows, all named RESOURCE/NAMESPACE/POD:

    /reported/  {uid, requests: {SOURCE: request}}      base64 of a PKCS #10 request; only while an answer is waited for
    /desired/   {uid, answers: {SOURCE: SignerAnswer}}  only while it is asked for
    /local/     {uid, sources: {SOURCE: ...}}           the keys, certificates and times (kubeedge.appengine.podcertificates.core), encrypted as Secrets are

SOURCE is VOLUME/INDEX: a pod may ask several signers, or one for several certificates.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from kubeedge.api.names import Object
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import asdict, dataclass

RESOURCE = "podcertificates"  # below /desired/, /reported/ and /local/
KEY_TYPES = ("RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")
MIN_SECONDS, MAX_SECONDS = 3600, 91 * 24 * 3600  # of a certificate's life that can be asked for
MAX_SOURCES = 16  # of one pod
MAX_REQUEST = 4 * 1024  # bytes, in DER; one for RSA with 4096 bits has 1.1 KB
MAX_CHAIN = 64 * 1024  # characters of certificates
MAX_MESSAGE = 1024  # characters of what a signer says
ISSUED, DENIED, FAILED = "Issued", "Denied", "Failed"  # how a request ends


@dataclass(frozen=True, slots=True)
class WantedCertificate:
    """A podCertificate source. `source` is VOLUME/INDEX."""

    source: str
    signer: str
    key_type: str
    seconds: int | None  # at most so long; None: as long as the API has it by default
    annotations: Mapping[str, str]  # for the signer


@dataclass(frozen=True, slots=True)
class SignerAnswer:
    """How a request ended. `request` is its digest(); times are in seconds since 1970, 0.0 of one that was not issued."""

    request: str
    outcome: str  # ISSUED, DENIED or FAILED
    reason: str = ""
    message: str = ""
    chain: str = ""  # PEM
    not_before: float = 0.0
    refresh: float = 0.0  # when the signer wants the next request
    not_after: float = 0.0


def wanted_by(pod: Object | None) -> Iterator[WantedCertificate]:
    """By all volumes of a pod, as many as it may have. What is not well formed is left out: its node says so."""
    volumes = ((pod or {}).get("spec") or {}).get("volumes")
    left = MAX_SOURCES
    for volume in volumes if isinstance(volumes, list) else ():
        projected = volume.get("projected") if isinstance(volume, dict) else None
        sources = projected.get("sources") if isinstance(projected, dict) else None
        for index, part in enumerate(sources if isinstance(sources, list) else ()):
            found = part.get("podCertificate") if isinstance(part, dict) else None
            if isinstance(found, dict) and (wanted := _wanted(f"{volume.get('name')}/{index}", found)) is not None:
                if not left:
                    return
                left -= 1
                yield wanted


def _wanted(source: str, found: Mapping[str, Any]) -> WantedCertificate | None:
    signer, kind, seconds = (found.get(name) for name in ("signerName", "keyType", "maxExpirationSeconds"))
    annotations = found.get("userAnnotations")
    said = annotations if isinstance(annotations, dict) else {}
    whole = isinstance(seconds, int) and not isinstance(seconds, bool)
    if not isinstance(signer, str) or not signer or kind not in KEY_TYPES or (seconds is not None and not whole):
        return None
    return WantedCertificate(source, signer, kind, seconds, {str(name): str(value) for name, value in said.items()})


def digest(request: bytes) -> str:
    """What names a request (PKCS #10 in DER) in its answer."""
    return hashlib.sha256(request).hexdigest()


def request_row(uid: str, requests: Mapping[str, bytes]) -> Object:
    """What a node reports of a pod: its requests by source."""
    return {"uid": uid, "requests": {source: base64.b64encode(der).decode() for source, der in requests.items()}}


def requests_of(row: Mapping[str, Any]) -> tuple[str, dict[str, bytes]]:
    """The uid and the requests in a row of a node, which may say anything. Raises Invalid."""
    uid, requests = row.get("uid"), row.get("requests")
    if not isinstance(uid, str) or not isinstance(requests, dict) or len(requests) > MAX_SOURCES:
        raise Invalid("no requests for certificates of a pod")
    found = {}
    for source, text in requests.items():
        if not isinstance(text, str) or len(text) > MAX_REQUEST * 4 // 3 + 4:
            raise Invalid(f"{source!r:.100}: no request for a certificate")
        try:
            found[str(source)] = base64.b64decode(text, validate=True)
        except binascii.Error as exc:
            raise Invalid(f"{source!r:.100}: no request for a certificate") from exc
    return uid, found


def answer_row(uid: str, answers: Mapping[str, SignerAnswer]) -> Object:
    """What the cloud tells a node."""
    return {"uid": uid, "answers": {source: asdict(answer) for source, answer in answers.items()}}


def answers_of(row: Mapping[str, Any]) -> tuple[str, dict[str, SignerAnswer]]:
    """The uid and the answers in a row of the cloud. Raises Invalid."""
    try:
        answers = {str(source): SignerAnswer(**answer) for source, answer in row["answers"].items()}
        for answer in answers.values():
            if answer.outcome not in (ISSUED, DENIED, FAILED) or len(answer.chain) > MAX_CHAIN:
                raise ValueError(answer.outcome)
            if not all(isinstance(t, int | float) for t in (answer.not_before, answer.refresh, answer.not_after)):
                raise ValueError("times are numbers")
        return str(row["uid"]), answers
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise Invalid(f"the certificates of a pod cannot be read: {type(exc).__name__}") from exc
