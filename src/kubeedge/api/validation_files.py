"""Rules of the files that volumes make of objects: ConfigMaps, Secrets, fields of the pod, tokens, certificates. Pure.

Lives elsewhere: the rest of a pod (validation.py).
"""

from __future__ import annotations

from typing import Any

from kubeedge.api import pod_certificates
from kubeedge.api.findings import Findings
from kubeedge.api.names import Object
from kubeedge.api.service_accounts import MAX_SECONDS, MIN_SECONDS
from kubeedge.api.status import FieldError, invalid, required, unsupported
from kubeedge.api.validation_names import as_list, as_map


def files(where: str, sources: Object) -> list[FieldError]:
    """Those that a volume, or a part of a projected one, makes of objects."""
    errors: list[FieldError] = []
    for source in ("configMap", "secret", "downwardAPI"):
        values = as_map(sources.get(source))
        errors += mode(f"{where}.{source}.defaultMode", values.get("defaultMode"))
        for number, item in enumerate(as_list(values.get("items"))):
            errors += _unreserved(f"{where}.{source}.items[{number}].path", item.get("path"))
            errors += mode(f"{where}.{source}.items[{number}].mode", item.get("mode"))
    if (token := sources.get("serviceAccountToken")) is not None:
        path, token = f"{where}.serviceAccountToken", as_map(token)
        errors += _unreserved(f"{path}.path", token.get("path"))
        errors += _token_life(f"{path}.expirationSeconds", token.get("expirationSeconds"))
    if (certificate := sources.get("podCertificate")) is not None:
        errors += _certificate(f"{where}.podCertificate", as_map(certificate))
    return errors


def _certificate(where: str, source: Object) -> list[FieldError]:
    """A podCertificate source, in the API server's words."""
    errors: list[FieldError] = Findings()
    if not source.get("signerName"):
        errors.append(required(f"{where}.signerName"))
    if not source.get("keyType"):
        errors.append(required(f"{where}.keyType"))
    elif source["keyType"] not in pod_certificates.KEY_TYPES:
        errors.append(unsupported(f"{where}.keyType", source["keyType"], sorted(pod_certificates.KEY_TYPES)))
    seconds = source.get("maxExpirationSeconds")
    if isinstance(seconds, int):
        limit = f">= {pod_certificates.MIN_SECONDS}" if seconds < pod_certificates.MIN_SECONDS else ""
        limit = limit or (f"<= {pod_certificates.MAX_SECONDS}" if seconds > pod_certificates.MAX_SECONDS else "")
        if limit:
            message = f"if provided, maxExpirationSeconds must be {limit}"
            errors.append(invalid(f"{where}.maxExpirationSeconds", seconds, message))
    paths = [name for name in ("credentialBundlePath", "keyPath", "certificateChainPath") if source.get(name)]
    if not paths:
        errors.append(required(f"{where}.credentialBundlePath"))
    for name in paths:
        errors += _unreserved(f"{where}.{name}", source[name])
    return errors


def _token_life(path: str, value: Any) -> list[FieldError]:
    if value is None or (type(value) is int and MIN_SECONDS <= value <= MAX_SECONDS):
        return []
    if type(value) is not int:
        return [invalid(path, value, "must be an integer")]
    if value < MIN_SECONDS:
        return [invalid(path, value, "may not specify a duration less than 10 minutes")]
    return [invalid(path, value, "may not specify a duration larger than 2^32 seconds")]


def mode(path: str, value: Any) -> list[FieldError]:
    """Of a file, which the API has as a number."""
    if isinstance(value, int) and not 0 <= value <= 0o777:
        return [invalid(path, value, "must be a number between 0 and 0777 (octal), both inclusive")]
    return []


def _unreserved(path: str, value: Any) -> list[FieldError]:
    """Names that begin with ".." are the node's own in such a volume."""
    if errors := relative(path, value):
        return errors
    reserved = any(part.startswith("..") for part in str(value).split("/"))
    return [invalid(path, value, "must not start with '..'")] if reserved or "\0" in str(value) else []


def relative(path: str, value: Any) -> list[FieldError]:
    """A path inside a volume: it must not lead out of it."""
    if not value:
        return [required(path)]
    if str(value).startswith("/"):
        return [invalid(path, value, "must be a relative path")]
    return [invalid(path, value, "must not contain '..'")] if ".." in str(value).split("/") else []
