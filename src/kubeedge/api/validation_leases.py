"""Rules of Leases (strategy of the built-in resource). Called with types checked."""

from __future__ import annotations

from kubeedge.api.findings import Findings
from kubeedge.api.names import Object
from kubeedge.api.status import FieldError, forbidden, invalid
from kubeedge.api.validation_names import as_map


def lease(obj: Object) -> list[FieldError]:
    """Rules of a Lease."""
    spec = as_map(obj.get("spec"))
    errors: list[FieldError] = Findings()
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if duration is not None and duration <= 0:
        errors.append(invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        errors.append(invalid("spec.leaseTransitions", transitions, "must be greater than or equal to 0"))
    if spec.get("preferredHolder") and not spec.get("strategy"):
        errors.append(forbidden("spec.preferredHolder", "may only be specified if `strategy` is defined"))
    return errors
