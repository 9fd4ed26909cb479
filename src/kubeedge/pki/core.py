"""When a certificate is renewed. Pure.

At two thirds of its life, give or take a tenth of its life so that nodes that joined together do not come back together. A third of a
year is left then for a cloud that is down or a node that is off.
"""

from __future__ import annotations

from kubeedge.kit.backoff import Backoff
from kubeedge.pki.der import Validity

_RETRY = Backoff(60.0, 3600.0)  # `renewal_time` has spread the nodes already


def renewal_time(validity: Validity, jitter: float) -> float:
    """Seconds since 1970; `jitter` is from 0 to 1, drawn once."""
    life = validity.not_after - validity.not_before
    return validity.not_before + life * (2 / 3 + (jitter - 0.5) / 5)


def retry_delay(failures: int) -> float:
    """Seconds to wait after the n-th failure in a row (1, 2, ...)."""
    return _RETRY.delay(failures)
