"""Credentials out of Secrets, and authorities out of ConfigMaps, of the cluster: the node has those that its pods use.

Secret       userName, password, token, ca.crt      what it lacks is as the file says
ConfigMap    ca.crt
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from kubeedge.api import keys
from kubeedge.devices.sinks.credentials import SinkCredentials
from kubeedge.errors import Invalid, Unavailable
from kubeedge.kit.dataclasses import replace
from kubeedge.store.model import Store

_CA = "ca.crt"


async def completed(own: SinkCredentials, store: Store) -> SinkCredentials:
    """With what the objects have that it names. Raises Unavailable when the node does not have one, Invalid for one that lacks what it is for."""
    if own.secret:
        data = {name: _decoded(own.secret, text) for name, text in (await _data(store, "secrets", own.secret)).items()}
        known = {"user": "userName", "password": "password", "token": "token", "ca": _CA}
        own = replace(own, **{field: data[name] for field, name in known.items() if name in data})
    if own.config_map:
        found = await _data(store, "configmaps", own.config_map)
        if _CA not in found:
            raise Invalid(f"ConfigMap {own.config_map} has no {_CA}")
        own = replace(own, ca=found[_CA])
    return own


async def _data(store: Store, resource: str, name: str) -> Mapping[str, str]:
    namespace, _, last = name.partition("/")
    kv = await store.get(keys.desired(resource, namespace, last))
    if kv is None:
        raise Unavailable(f"{resource[:-1]} {name} is not on this node: no pod here uses it")
    value: Any = json.loads(kv.value)
    data = value.get("data") if isinstance(value, dict) else None
    return {k: v for k, v in data.items() if isinstance(v, str)} if isinstance(data, dict) else {}


def _decoded(name: str, text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError) as exc:
        raise Invalid(f"Secret {name} has a value that is no text") from exc
