"""One pod's certificates: which request is due, what an answer changes, what is worth an event. Pure.

    nothing ── ask ──> asked ── issued ──> has one ── refresh is due ──> has one, asked ── issued ──> has one
                         └── denied, failed ──> refused (what it had stays until it ends; nothing is asked for any more)

As in the kubelet a refusal is final for the pod. Lives elsewhere: keys, the rows, the time (manager.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kubeedge.api.pod_certificates import DENIED, ISSUED, SignerAnswer, digest
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import asdict, dataclass, field

SOONEST = 300.0  # seconds until the next request after a certificate came; the API has no signer that wants one sooner
OVERDUE = 600.0  # seconds after the refresh was due; then an event says so, as the kubelet's does
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")


@dataclass(slots=True)
class PodCertificate:
    """What the node has for one source. Keys are PKCS #8 in PEM."""

    key: str = field(default="", repr=False)
    chain: str = ""  # "": none was issued yet
    refresh: float = 0.0  # seconds since 1970
    not_after: float = 0.0
    next_key: str = field(default="", repr=False)  # of the request that is under way
    request: str = ""  # base64 of that, in DER; "": none is
    refused: str = ""  # what the signer said; nothing is asked for any more
    told: str = ""  # the last event about its age

    def is_due(self, now: float) -> bool:
        """A request is to be made."""
        return not self.request and not self.refused and (not self.chain or now >= self.refresh)

    def due(self, now: float) -> float | None:
        """When to look at it again, in seconds since 1970; None: when an answer comes."""
        times = [self.refresh] if self.chain and not self.request and not self.refused else []
        if self.chain:
            times += [self.refresh + OVERDUE, self.not_after]
        return min((t for t in times if t > now), default=None)

    def asked(self, key: str, request: str) -> None:
        """A request is under way."""
        self.next_key, self.request = key, request

    def answered(self, answer: SignerAnswer, request: bytes, delay: float, now: float) -> tuple[str, str] | None:
        """An answer came to that request: (reason, message) of a warning. The next request is due `delay` seconds after the signer wants it, and not
        at once where this machine's clock is ahead: that is so each time."""
        if answer.request != digest(request):
            return None  # to an earlier one
        key, self.next_key, self.request = self.next_key, "", ""
        if answer.outcome == ISSUED and (chain := clean(answer.chain)):
            self.key, self.chain, self.told = key, chain, ""
            spare = max(0.0, answer.not_after - answer.refresh)
            self.refresh = max(now + SOONEST, answer.refresh + min(delay, spare / 2))
            self.not_after = answer.not_after
            return None
        outcome = answer.outcome if answer.outcome == DENIED else "Failed"
        said = answer.message or "the signer has sent no certificate"
        self.refused = f"the request for a certificate was {outcome.lower()}: {answer.reason}: {said}"
        return outcome, self.refused

    def age(self, now: float) -> tuple[str, str] | None:
        """(reason, message) of a warning that was not told yet."""
        if not self.chain:
            return None
        reason, message = "", ""
        if now >= self.not_after:
            reason, message = "CertificateExpired", "PodCertificate expired"
        elif now >= self.refresh + OVERDUE:
            reason, message = "CertificateOverdueForRefresh", "PodCertificate refresh overdue"
        if not reason or self.told == reason:
            return None
        self.told = reason
        return reason, message


def clean(chain: str) -> str:
    """The certificates in the text, without what is between them."""
    return "".join(f"{match[0]}\n" for match in _PEM.finditer(chain))


def encoded(row: Mapping[str, Any]) -> bytes:
    """Compact JSON: equal rows have equal bytes."""
    return json.dumps(row, sort_keys=True, separators=(",", ":")).encode()


def decoded(value: bytes) -> dict[str, Any]:
    """The JSON object in `value`; {} when it is anything else."""
    try:
        found = json.loads(value)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def row(uid: str, sources: Mapping[str, PodCertificate]) -> dict[str, Any]:
    """What is kept in the store."""
    return {"uid": uid, "sources": {source: asdict(kept) for source, kept in sources.items()}}


def read(found: Mapping[str, Any], uid: str) -> dict[str, PodCertificate]:
    """What was kept for the pod; {} for another of that name. Raises Invalid."""
    if found.get("uid") != uid:
        return {}
    try:
        return {str(source): PodCertificate(**kept) for source, kept in found["sources"].items()}
    except (AttributeError, KeyError, TypeError) as exc:
        raise Invalid(f"the kept certificates of a pod cannot be read: {type(exc).__name__}") from exc


def files(source: Mapping[str, Any], kept: PodCertificate) -> Iterator[tuple[str, bytes]]:
    """(path, content) of what a podCertificate source writes."""
    for path, content in (
        ("credentialBundlePath", kept.key + kept.chain), ("keyPath", kept.key), ("certificateChainPath", kept.chain)
    ):  # fmt: skip
        if source.get(path):
            yield str(source[path]), content.encode()


def missing(signer: str, kept: PodCertificate | None) -> str:
    """Why there is no certificate yet."""
    if kept is not None and kept.refused:
        return kept.refused
    return f"the certificate of signer {signer:.200} has not come yet"
