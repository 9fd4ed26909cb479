"""What each tenant has used of a client proxy, since it began. Pure.

A tenant has an account of its own once it was seen to exist: unauthenticated clients may put any name into a URL. All others share the account "".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubeedge.kit.dataclasses import dataclass, field, replace


@dataclass(slots=True)
class Account:
    """The totals of one account."""

    answers: list[int] = field(default_factory=lambda: [0] * 6)  # by class of status; 1 is an upgrade
    refused: int = 0  # of them, for a limit
    bytes_in: int = 0  # of bodies and upgraded connections, from clients
    bytes_out: int = 0


class Accounts:
    """Of tenants that exist; requests that name another one count for "", so that names cannot fill memory."""

    def __init__(self) -> None:
        self._unknown = Account()
        self._by_tenant: dict[str, Account] = {}

    def exists(self, tenant: str) -> Account:
        """The account of a tenant that is known to exist."""
        return self._by_tenant.setdefault(tenant, Account())

    def of(self, tenant: str) -> Account:
        """The tenant's, or that of all unknown tenants."""
        return self._by_tenant.get(tenant, self._unknown)

    def all(self) -> dict[str, Account]:
        """The totals by tenant; "" stands for all unknown ones."""
        return {"": self._unknown, **self._by_tenant}

    def with_fast(self, counters: Mapping[str, Mapping[str, Any]]) -> dict[str, Account]:
        """Copies, with what the fast path has counted (Proxy.accounts)."""
        both = {name: replace(account, answers=list(account.answers)) for name, account in self.all().items()}
        for name, counted in counters.items():
            account = both.get(name, both[""])
            account.answers = [a + b for a, b in zip(account.answers, counted["status"], strict=True)]
            account.refused += counted["refused"]
            account.bytes_out += counted["bytes"]
        return both
