"""What a Device says about an OPC-UA server and its nodes, and values between the two. Pure.

configData of a Device: url (opc.tcp://HOST[:PORT][/PATH]); securityPolicy (Basic256Sha256, or None), securityMode (SignAndEncrypt, or Sign); certificate
and privateKey (files, ours), serverCertificate (file) or serverFingerprint (SHA-256 in hex); userName and password, or userCertificate and
userPrivateKey (files); timeout (milliseconds). Of a property: nodeID, index (of an array), dataType, push (the server sends it by itself).
"""

from __future__ import annotations

import json
import re
from typing import Any

from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.mapper.opcua import binary, messages
from kubeedge.mapper.opcua.binary import DataValue, NodeId, TypedVariant
from kubeedge.mapper.values import MappedDevice, MappedProperty, TypedValue

PORT = 4840
_URL = re.compile(r"opc\.tcp://(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::([0-9]{1,5}))?(/[!-~]{0,512})?")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_TICKS, _EPOCH = 10_000_000, 11_644_473_600  # of a DateTime: in a second, and seconds from 1601 to 1970
_MAX_INDEX = 1_000_000
_INTEGERS = range(binary.SBYTE, binary.UINT64 + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcuaDevice:
    """Where a server is, and who it and we are. Files by their paths; "": none. `timeout` in seconds."""

    url: str
    host: str
    port: int
    secure: bool
    sign_only: bool = False
    certificate: str = ""
    private_key: str = ""
    server_certificate: str = ""
    server_fingerprint: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    user_certificate: str = ""
    user_key: str = ""
    timeout: float = 4.0


def device_of(device: MappedDevice) -> OpcuaDevice:
    """Raises Invalid with what is wrong."""
    texts = {key: _text(device, key) for key in _KEYS}
    match = _URL.fullmatch(texts["url"])
    port = int(match[2] or PORT) if match else 0
    if match is None or not 0 < port < 65536:
        raise device.invalid("url must be like opc.tcp://192.168.1.20:4840/path")
    policy, mode = texts["securityPolicy"] or "Basic256Sha256", texts["securityMode"] or "SignAndEncrypt"
    policy = policy.rpartition("#")[2]
    if policy not in ("Basic256Sha256", "None"):
        raise device.invalid("securityPolicy must be Basic256Sha256 or None")
    if policy != "None" and mode not in ("Sign", "SignAndEncrypt"):
        raise device.invalid("securityMode must be SignAndEncrypt or Sign")
    fingerprint = texts["serverFingerprint"].replace(":", "").lower()
    if fingerprint and not _FINGERPRINT.fullmatch(fingerprint):
        raise device.invalid("serverFingerprint must be the SHA-256 of the server's certificate, in hex")
    if policy != "None" and not (texts["certificate"] and texts["privateKey"]):
        raise device.invalid(
            "certificate and privateKey, our files, are required; or securityPolicy None, without security"
        )
    if bool(texts["userCertificate"]) != bool(texts["userPrivateKey"]):
        raise device.invalid("userCertificate and userPrivateKey go together")
    return OpcuaDevice(
        url=texts["url"],
        host=match[1].strip("[]"),
        port=port,
        secure=policy != "None",
        sign_only=mode == "Sign",
        certificate=texts["certificate"],
        private_key=texts["privateKey"],
        server_certificate=texts["serverCertificate"],
        server_fingerprint=fingerprint,
        user=texts["userName"],
        password=texts["password"],
        user_certificate=texts["userCertificate"],
        user_key=texts["userPrivateKey"],
        timeout=device.number("timeout", 100, 60_000, 4000) / 1000,
    )


_KEYS = (
    "url", "securityPolicy", "securityMode", "certificate", "privateKey", "serverCertificate", "serverFingerprint", "userName", "password",
    "userCertificate", "userPrivateKey",
)  # fmt: skip


def _text(device: MappedDevice, key: str) -> str:
    value = device.config.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > 1024:
        raise device.invalid(f"{key} must be a text")
    return value


@dataclass(frozen=True, slots=True)
class OpcuaNode:
    """Where a property is: a node, and which item of an array ("": all of it). `type`: built-in type for writing; 0: the server is asked."""

    node: NodeId
    index: str = ""
    type: int = 0


def node_of(prop: MappedProperty) -> OpcuaNode:
    """Raises Invalid with what is wrong."""
    text = prop.visitor.get("nodeID")
    if not isinstance(text, str):
        raise prop.invalid("nodeID is missing")
    try:
        node = NodeId.parse(text)
    except Invalid as exc:
        raise prop.invalid(str(exc)) from exc
    index = "" if prop.visitor.get("index") is None else str(prop.number("index", 0, _MAX_INDEX))
    name = prop.visitor.get("dataType")
    if name is not None and name not in binary.TYPE_NAMES:
        raise prop.invalid(f"dataType must be one of {', '.join(binary.TYPE_NAMES)}")
    return OpcuaNode(node, index, binary.TYPE_NAMES[name] if name else 0)


def value_of(prop: MappedProperty, found: DataValue) -> TypedValue:
    """What a node has, as the property's type has it. Raises Invalid, with the property's name."""
    if messages.is_bad(found.status):
        raise prop.invalid(f"the server answers {messages.status_name(found.status)}")
    variant = found.variant
    if variant is None or variant.value is None:
        raise prop.invalid("the node has no value of a type that a property may have")
    value: Any = variant.value
    if isinstance(value, list):
        if prop.visitor.get("index") is not None:
            value = value[0] if len(value) == 1 else _item(prop, value)
        elif prop.type in ("STRING", "STREAM"):
            return json.dumps([_plain(one, variant.type) for one in value], separators=(",", ":"), default=_text_of)
        else:
            raise prop.invalid("the node is an array: say which item (index), or make the property a STRING")
    return _typed(prop, _plain(value, variant.type))


def _item(prop: MappedProperty, items: list[Any]) -> Any:
    """Of a server that has sent the whole array: some do not know what an index range is."""
    index = prop.number("index", 0, _MAX_INDEX)
    if index >= len(items):
        raise prop.invalid(f"the node has {len(items)} items")
    return items[index]


def _text_of(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _plain(value: Any, kind: int) -> Any:
    """A DateTime is seconds since 1970."""
    return value / _TICKS - _EPOCH if kind == binary.DATETIME else value


def _typed(prop: MappedProperty, value: Any) -> TypedValue:
    if prop.type in ("STRING", "STREAM"):
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        return value if isinstance(value, str) else json.dumps(value, default=_text_of)
    if prop.type == "BYTES" and isinstance(value, str):
        return value.encode()
    if isinstance(value, str):
        return prop.typed(value.strip().lower() if prop.type == "BOOLEAN" else value.strip())
    prop.text(value)  # raises Invalid for another type
    found: TypedValue = value
    return found


def variant_of(prop: MappedProperty, node: OpcuaNode, kind: int, value: TypedValue) -> TypedVariant:
    """What is written to a node of that built-in type. Raises Invalid, with the property's name."""
    found: Any = None
    if kind == binary.BOOLEAN and isinstance(value, int | float):
        found = bool(value)
    elif kind in _INTEGERS and isinstance(value, int | float) and value == int(value):
        found = int(value)
    elif kind in (binary.FLOAT, binary.DOUBLE) and isinstance(value, int | float):
        found = float(value)
    elif kind == binary.STRING:
        found = value if isinstance(value, str) else None if isinstance(value, bytes) else json.dumps(value)
    elif kind == binary.BYTESTRING:
        found = value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else None
    if found is None:
        raise prop.invalid(f"a {prop.type} cannot be written to a node of type {kind} of OPC-UA")
    variant = TypedVariant(kind, [found] if node.index else found)
    try:
        binary.OpcuaEncoder().variant(variant)
    except Invalid as exc:
        raise prop.invalid(str(exc)) from exc
    return variant


def takes_index(prop: MappedProperty, current: DataValue) -> bool:
    """The server has sent one item, as it was asked to: one that sends all of them would write the one over all of them."""
    return prop.visitor.get("index") is None or (
        current.variant is not None and isinstance(current.variant.value, list) and len(current.variant.value) == 1
    )


def type_of(declared: DataValue, current: DataValue) -> int:
    """The built-in type of a node: of its value, else the one that it declares; 0: neither says."""
    if current.variant is not None and current.variant.type and not messages.is_bad(current.status):
        return current.variant.type
    return 0 if declared.variant is None or not isinstance(declared.variant.value, int) else declared.variant.value


def chosen(endpoints: list[messages.OpcuaEndpoint], policy: str, mode: int) -> messages.OpcuaEndpoint:
    """The server's endpoint with that security. Raises Invalid when it has none."""
    for endpoint in endpoints:
        if (endpoint.policy_uri, endpoint.mode) == (policy, mode) and endpoint.url.startswith("opc.tcp:"):
            return endpoint
    have = sorted({f"{one.policy_uri.rpartition('#')[2]} with mode {one.mode}" for one in endpoints})
    raise Invalid(f"the server has {', '.join(have)[:300] or 'no endpoint'}, not what the Device asks for")
