"""Rules of the families of addresses that a Service asks for. Pure."""

from __future__ import annotations

from kubeedge.api.findings import Findings
from kubeedge.api.names import Object
from kubeedge.api.status import FieldError, duplicate, unsupported


def service(spec: Object) -> list[FieldError]:
    """Values of `ipFamilies` and `ipFamilyPolicy`; whether a cluster has them is decided where addresses are given (apiserver.cluster_ips)."""
    errors: list[FieldError] = Findings()
    policies = ("PreferDualStack", "RequireDualStack", "SingleStack")
    if (policy := spec.get("ipFamilyPolicy")) is not None and policy not in policies:
        errors.append(unsupported("spec.ipFamilyPolicy", policy, policies))
    seen: set[object] = set()
    for index, family in enumerate(spec.get("ipFamilies") or ()):
        if family not in ("IPv4", "IPv6"):
            errors.append(unsupported(f"spec.ipFamilies[{index}]", family, ("IPv4", "IPv6")))
        elif family in seen:
            errors.append(duplicate(f"spec.ipFamilies[{index}]", family))
        seen.add(family)
    return errors
