"""ClusterTrustBundles that projected volumes ask for: by name, or all of a signer that have some labels. Pure.

Which bundles a source means is found in the cloud (edgecontroller/trust_bundles.py). A node has one row for each thing that is asked for,
/desired/clustertrustbundles/_/DIGEST, with the certificates of all of them: {"metadata": {"name": DIGEST}, "trustBundle": PEM}. No row: there are none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from kubeedge.api.names import Object
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass

RESOURCE = "clustertrustbundles"  # below /desired/, too
_MAX_SELECTOR = 16 * 1024  # characters


@dataclass(frozen=True, slots=True)
class WantedBundle:
    """What a source asks for. `name`, or `signer` and `selector`, a LabelSelector as JSON; "": it selects nothing."""

    name: str = ""
    signer: str = ""
    selector: str = ""

    @property
    def row(self) -> str:
        """The name of the row that answers it."""
        return hashlib.sha256("\n".join((self.name, self.signer, self.selector)).encode()).hexdigest()[:40]


def wanted_of(source: Mapping[str, Any]) -> WantedBundle:
    """By a clusterTrustBundle source. Raises Invalid for one that is not well formed."""
    name, signer, selector = source.get("name"), source.get("signerName"), source.get("labelSelector")
    if name:
        return WantedBundle(name=str(name))
    if not signer:
        raise Invalid("a clusterTrustBundle source has a name or a signerName", path="spec.volumes")
    written = "" if not isinstance(selector, dict) else json.dumps(selector, sort_keys=True, separators=(",", ":"))
    if len(written) > _MAX_SELECTOR:
        raise Invalid("the labelSelector is too long", path="spec.volumes")
    return WantedBundle(signer=str(signer), selector=written)


def wanted_by(pod: Object) -> Iterator[WantedBundle]:
    """By all volumes of a pod; what is not well formed is left out, and its node says so."""
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            if isinstance(found := source.get("clusterTrustBundle"), dict):
                try:
                    yield wanted_of(found)
                except Invalid:
                    continue
