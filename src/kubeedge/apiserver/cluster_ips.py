"""The cluster IPs of Services: one for each family of addresses that a Service has (ipFamilies, ipFamilyPolicy), from a network of each family."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from kubeedge.api import keys, meta
from kubeedge.api.meta import Randbytes
from kubeedge.api.names import Object, TenantId
from kubeedge.api.resources import Row
from kubeedge.api.status import FieldError, InvalidObject, ServerUnavailable, invalid
from kubeedge.apiserver.writing import Writing
from kubeedge.kit.ip import IpNetwork, address_of
from kubeedge.store.model import Compare, CompareTarget, Delete, Op, Put, Store

SERVICE_RANGE = ipaddress.IPv4Network("10.96.0.0/12")  # the default of kubeadm
HEADLESS = "None"
_SINGLE, _REQUIRED = "SingleStack", "RequireDualStack"
_FAMILIES = ("IPv4", "IPv6")
_FIELDS = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")
_TRIES = 64


class ClusterIps:
    """For one tenant. `networks`: one, or one of each family; a Service that names none gets the first one's."""

    def __init__(self, store: Store, tenant: TenantId, *, randbytes: Randbytes, networks: Sequence[IpNetwork]) -> None:
        self._store = store
        self._randbytes = randbytes
        self._networks = {_family(network.version): network for network in networks}
        self._prefix = f"{keys.registry(tenant)}_addresses/services/"

    async def of_write(self, row: Row, old: Object | None, new: Object) -> Writing:
        """The Service with its families and addresses. Raises InvalidObject, ServerUnavailable."""
        held, spec = _addresses(old), dict(new.get("spec") or {})
        if spec.get("type") == "ExternalName":
            for field in _FIELDS:
                spec.pop(field, None)
            return Writing({**new, "spec": spec}, ops=self._released(held))
        stack = _Stack(spec, (old or {}).get("spec") or {}, list(self._networks))
        if stack.errors:
            raise InvalidObject.of(row.resource, meta.name_of(new), stack.errors)
        spec |= {"ipFamilies": stack.families, "ipFamilyPolicy": stack.policy}
        if stack.headless:
            return Writing({**new, "spec": {**spec, "clusterIP": HEADLESS, "clusterIPs": [HEADLESS]}})
        wanted = [await self._address(row, new, stack, held, n) for n in range(len(stack.families))]
        spec |= {"clusterIP": wanted[0], "clusterIPs": wanted}
        owner = meta.encode({"namespace": meta.namespace_of(new), "name": meta.name_of(new)})
        fresh = [self._prefix + address for address in wanted if address not in held]
        return Writing(
            {**new, "spec": spec},
            [Compare(key, CompareTarget.VERSION, "=", 0) for key in fresh],
            [*(Put(key, owner) for key in fresh), *self._released([a for a in held if a not in wanted])],
        )

    def of_removal(self, obj: Object) -> Sequence[Op]:
        """What frees the addresses of a Service."""
        return self._released(_addresses(obj))

    def _released(self, addresses: Sequence[str]) -> list[Op]:
        return [Delete(self._prefix + address) for address in addresses]

    async def _address(self, row: Row, new: Object, stack: _Stack, held: Sequence[str], index: int) -> str:
        """Of the family with that index: the one that is asked for, the one that it has, or a free one."""
        family = stack.families[index]
        if index >= len(stack.given):
            kept = next((address for address in held if _family_of(address) == family), "")
            return kept or await self._free(self._networks[family])
        wanted = stack.given[index]
        if wanted in held:  # be it of a network that is configured no more
            return wanted
        network = self._networks[family]
        if address_of(wanted) not in network:
            detail = f"the provided IP ({wanted}) is not in the valid range. The range of valid IPs is {network}"
        elif await self._store.get(self._prefix + wanted) is not None:
            detail = f"failed to allocate IP {wanted}: provided IP is already allocated"
        else:
            return wanted
        raise InvalidObject.of(row.resource, meta.name_of(new), [invalid("spec.clusterIPs", stack.given, detail)])

    async def _free(self, network: IpNetwork) -> str:
        """Random tries: of a million addresses, even half taken leaves no doubt after 64."""
        size = min(network.num_addresses - 2, 1 << 32)
        for _ in range(_TRIES):
            address = str(network[1 + int.from_bytes(self._randbytes(4)) % size])
            if await self._store.get(self._prefix + address) is None:
                return address
        raise ServerUnavailable(f"no free service address found in {network}: delete services that are not needed")


class _Stack:
    """The families that a Service asks for, and the addresses; as Kubernetes decides them. `errors`: it cannot have them."""

    def __init__(self, spec: Object, before: Object, known: Sequence[str]) -> None:
        self.errors: list[FieldError] = []
        self._known = known
        self._had: Sequence[str] = before.get("ipFamilies") or ()
        self.policy: str = spec.get("ipFamilyPolicy") or before.get("ipFamilyPolicy") or ""
        self.families: list[str] = list(spec.get("ipFamilies") or before.get("ipFamilies") or ())
        first = spec.get("clusterIP")
        self.given = [_written(text) for text in spec.get("clusterIPs") or ([first] if first else [])]
        self.headless = self.given[:1] == [HEADLESS]
        if self.policy == _SINGLE and len(self._had) == 2 and self.families == self._had:
            self.families, self.given = self.families[:1], self.given[:1]  # it gives the second one up
        if self.headless and not spec.get("selector"):
            self._without_selector()
            return
        self.policy = self.policy or _SINGLE
        if first and self.given and _written(first) != self.given[0]:
            self.errors.append(invalid("spec.clusterIPs[0]", self.given[0], "must be the same as `clusterIP`"))
        elif not self.headless:
            self._of_addresses()
        if not self.errors:
            self._of_policy()
        if self.headless or self.errors:
            return
        for index, (address, family) in enumerate(zip(self.given, self.families, strict=False)):
            if _family_of(address) != family:
                detail = f"expected an {family} value as indicated by `ipFamilies[{index}]`"
                self.errors.append(invalid(f"spec.clusterIPs[{index}]", address, detail))

    def _without_selector(self) -> None:
        """Its endpoints are somebody else's affair, and so are their families."""
        self.policy = self.policy or _REQUIRED
        first = self.families or [self._known[0]]
        self.families = first if self.policy == _SINGLE else [*first, *(f for f in _FAMILIES if f not in first)]

    def _of_addresses(self) -> None:
        """The families of addresses that are asked for by themselves."""
        found = [_family_of(address) for address in self.given]
        if "" in found or len(found) > 2 or len(set(found)) < len(found):
            detail = "may be one valid IP address of each family, or None"
            self.errors.append(invalid("spec.clusterIPs", self.given, detail))
        elif len(found) > len(self.families):
            self.families += found[len(self.families) :]

    def _of_policy(self) -> None:
        families = self.families = self.families or [self._known[0]]
        for index, family in enumerate(families):
            if family not in self._known and family not in self._had:
                detail = "not configured on this cluster"
                self.errors.append(invalid(f"spec.ipFamilies[{index}]", family, detail))
        if self.policy == _SINGLE:
            if len(families) > 1:
                detail = "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"
                self.errors.append(invalid("spec.ipFamilyPolicy", self.policy, detail))
            return
        families += [family for family in self._known if family not in families]
        if self.policy == _REQUIRED and len(families) < 2:
            detail = "this cluster is not configured for dual-stack services"
            self.errors.append(invalid("spec.ipFamilyPolicy", self.policy, detail))


def _addresses(service: Object | None) -> list[str]:
    """The addresses that a Service has."""
    spec = (service or {}).get("spec") or {}
    found = spec.get("clusterIPs") or [spec.get("clusterIP")]
    return [str(address) for address in found if address and address != HEADLESS]


def _family(version: int) -> str:
    return _FAMILIES[version == 6]


def _family_of(address: str) -> str:
    """ "": it is no address."""
    try:
        return _family(address_of(address).version)
    except ValueError:
        return ""


def _written(text: str) -> str:
    """An address in its one spelling; anything else as it is."""
    try:
        return str(address_of(text))
    except ValueError:
        return text
