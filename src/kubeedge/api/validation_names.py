"""Rules that all kinds share: names, labels, metadata, port numbers.

Lives elsewhere: rules of pods (validation.py) and of the other kinds (validation_kinds.py).
"""

from __future__ import annotations

import re
from typing import Any

from kubeedge.api.findings import Findings
from kubeedge.api.names import Object
from kubeedge.api.resources import Row
from kubeedge.api.selectors import is_label_key, is_label_value
from kubeedge.api.status import FieldError, invalid, required, too_long

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]*[a-z0-9])?")
CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")

LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_ANNOTATIONS_LIMIT = 256 * 1024  # bytes, of all keys and values together


def metadata(row: Row, obj: Object) -> list[FieldError]:
    """Errors in metadata by the rules of ObjectMeta: name, namespace, labels, annotations, finalizers, owners."""
    meta = obj.get("metadata")
    meta = meta if isinstance(meta, dict) else {}
    errors: list[FieldError] = Findings()
    name = meta.get("name")
    if not name:
        errors.append(required("metadata.name", "name or generateName is required"))
    elif row.name_rule == "label":
        errors += label("metadata.name", name)
    elif len(name) > 253 or not SUBDOMAIN.fullmatch(name):
        errors.append(invalid("metadata.name", name, SUBDOMAIN_RULE))
    errors += labels("metadata.labels", meta.get("labels"))
    size = 0
    for key, value in as_map(meta.get("annotations")).items():
        size += len(key) + len(str(value))
        if not is_label_key(key.lower()):
            errors.append(
                invalid(
                    "metadata.annotations", key, "name part must consist of alphanumeric characters, '-', '_' or '.'"
                )
            )
    if size > _ANNOTATIONS_LIMIT:
        errors.append(too_long("metadata.annotations", _ANNOTATIONS_LIMIT))
    for index, reference in enumerate(as_list(meta.get("ownerReferences"))):
        path = f"metadata.ownerReferences[{index}]"
        for key in ("apiVersion", "kind", "name", "uid"):
            if not reference.get(key):
                errors.append(required(f"{path}.{key}"))
    return errors


def labels(path: str, values: Any) -> list[FieldError]:
    """Rules of a map of labels at `path`."""
    errors: list[FieldError] = Findings()
    for key, value in as_map(values).items():
        if not is_label_key(key):
            errors.append(
                invalid(
                    path,
                    key,
                    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with "
                    "an alphanumeric character",
                )
            )
        if not is_label_value(str(value)):
            errors.append(
                invalid(
                    path,
                    value,
                    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and "
                    "must start and end with an alphanumeric character",
                )
            )
    return errors


def label(path: str, text: str) -> list[FieldError]:
    """Rule of a DNS label (RFC 1123)."""
    if len(text) > 63:
        return [invalid(path, text, "must be no more than 63 characters")]
    return [] if LABEL.fullmatch(text) else [invalid(path, text, LABEL_RULE)]


def as_list(value: Any) -> list[Any]:
    """What should be a list, or none: the check of types reports what is no list."""
    return value if isinstance(value, list) else []


def as_map(value: Any) -> Object:
    """What should be a map, or an empty one."""
    return value if isinstance(value, dict) else {}


def port_number(path: str, value: Any) -> list[FieldError]:
    """An error at `path` unless the value is a whole number from 1 to 65535."""
    if isinstance(value, int) and 1 <= value <= 65535:
        return []
    return [invalid(path, value, "must be between 1 and 65535, inclusive")]
