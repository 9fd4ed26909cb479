"""Users of the node's broker, and their rights: what the administrator's file says in, rights out.

    - {user: modbus, password: "scrypt:...", protocol: modbus}                    # a mapper: the devices of its protocol
    - {user: panel, password: "scrypt:...", devices: [default/hall, lab/*], read: true}
    - {user: line4, password: "scrypt:...", topics: ["line4/#"], messages: true}
    - {user: press.site.example, certificate: true, devices: [default/press]}    # a name of its client certificate (mqttTls.clientCaFile)
    - {uid: 1000, everything: true}                                               # programs of this machine, by their Unix user

Root's programs on this machine may do everything unless the file names uid 0. A device's rights are looked at with each message: devices come and go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kubeedge.api.names import NamespacedName
from kubeedge.devices import topics
from kubeedge.devices.core import Device, Twins
from kubeedge.devices.eventbus import passwords
from kubeedge.devices.eventbus.passwords import PasswordHash
from kubeedge.devices.upstream.core import TOPICS
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass
from kubeedge.mqtt.codec import MAX_USER, is_filter
from kubeedge.mqtt.core import matches

MAX_USERS = 256
_MAX_LIST = 64  # devices or filters of a user
_FIELDS = ("user", "uid", "password", "certificate", "protocol", "devices", "topics", "read", "messages", "everything")
_OWN = "$ke/events/device/"
_ASKED = (f"{topics.DEVICES}get", f"{topics.DEVICES}history/get")
_CALLED = f"{topics.DEVICES}method/call"  # of the user's devices alone; the call itself says which
_ANSWERED = (*(f"{one}/result" for one in (*_ASKED, _CALLED)), f"{topics.DEVICES}updated")


@dataclass(frozen=True, slots=True)
class MqttUser:
    """One entry of the file. `name` "": programs of the Unix user `uid`."""

    name: str = ""
    uid: int = -1
    password: PasswordHash | None = None
    certificate: bool = False  # a client certificate with this name is enough
    protocol: str = ""
    devices: tuple[str, ...] = ()  # NAMESPACE/NAME, or NAMESPACE/*
    topics: tuple[str, ...] = ()  # filters of topics that are no device's
    read: bool = False  # only: nothing is published
    messages: bool = False  # for the cloud
    everything: bool = False

    @property
    def shown(self) -> str:
        """Whose sessions these are."""
        return f"user {self.name}" if self.name else f"uid {self.uid}"

    def has(self, key: NamespacedName, device: Device) -> bool:
        """The device is one of the user's."""
        if self.everything or (self.protocol and device.protocol == self.protocol):
            return True
        return f"{key[0]}/{key[1]}" in self.devices or f"{key[0]}/*" in self.devices


ROOT = MqttUser(uid=0, everything=True)


class UserRights:
    """Of a client, as kubeedge.mqtt asks for them."""

    def __init__(self, user: MqttUser, twins: Callable[[], Twins]) -> None:
        self.user = user
        self._twins = twins

    @property
    def name(self) -> str:
        """Whose sessions these are."""
        return self.user.shown

    def has(self, key: NamespacedName, device: Device) -> bool:
        """The device is one of the user's."""
        return self.user.has(key, device)

    def may_publish(self, topic: str) -> bool:
        """What mappers say of the user's devices, what asks for them, and the user's own topics."""
        user = self.user
        if user.everything:
            return True
        if user.read:
            return topic in _ASKED or (
                topic.startswith(topics.DEVICE) and topic.endswith("/twin/get") and self._of(topic)
            )
        if (at := topics.device_topic(topic)) is not None:
            return self._identified(at.identifier)
        if topic.startswith(_OWN):
            return self._of(topic)
        if any(matches(one, topic) for one in TOPICS):
            return user.messages
        return topic in (*_ASKED, _CALLED) or self._named(topic)

    def may_receive(self, topic: str) -> bool:
        """What is said of the user's devices, answers, and the user's own topics."""
        if self.user.everything or topic in _ANSWERED:
            return True
        if topic.startswith((topics.DEVICE, _OWN)):
            return self._of(topic)
        return self._named(topic)

    def _named(self, topic: str) -> bool:
        return not topic.startswith("$") and any(matches(one, topic) for one in self.user.topics)

    def _of(self, topic: str) -> bool:
        """The topic is about a device of the user's."""
        if not topic.startswith(_OWN):
            return self._identified(topics.identifier_of(topic))
        levels = tuple(topic[len(_OWN) :].split("/")[:2])  # namespace and name: a name alone is no id there
        return len(levels) == 2 and self._identified(levels)

    def _identified(self, identifier: tuple[str, ...]) -> bool:
        twins = self._twins()
        key = twins.find(identifier) if all(identifier) and identifier else None
        return key is not None and self.user.has(key, twins.devices[key])


def users(value: Any) -> Mapping[str | int, MqttUser]:
    """Name or uid -> user, of what the file says. Raises Invalid; no password is in the message."""
    if not isinstance(value, list) or len(value) > MAX_USERS:
        raise Invalid(f"the file of MQTT users is a list of at most {MAX_USERS}")
    found: dict[str | int, MqttUser] = {0: ROOT}
    for number, item in enumerate(value, 1):
        try:
            user = _user(item)
        except Invalid as exc:
            raise Invalid(f"MQTT user {number}: {exc}") from exc
        key = user.name or user.uid
        if key in found and found[key] is not ROOT:
            raise Invalid(f"MQTT user {number}: {user.shown} is there twice")
        found[key] = user
    return found


def _user(item: Any) -> MqttUser:
    if not isinstance(item, dict) or not all(isinstance(name, str) for name in item):
        raise Invalid("it is no mapping")
    if unknown := item.keys() - set(_FIELDS):
        raise Invalid(f"unknown fields {', '.join(sorted(unknown))[:200]}: there are {', '.join(_FIELDS)}")
    name, uid, password, protocol = (item.get(key) for key in ("user", "uid", "password", "protocol"))
    if (name is None) == (uid is None):
        raise Invalid("either user or uid says who it is")
    if name is not None and (not isinstance(name, str) or not 0 < len(name) <= MAX_USER or not name.isprintable()):
        raise Invalid(f"user is a text of at most {MAX_USER} characters")
    if uid is not None and (not isinstance(uid, int) or isinstance(uid, bool) or uid < 0 or password is not None):
        raise Invalid("uid is a number, and has no password: the kernel says whose a program is")
    flags = [item.get(key, False) for key in ("certificate", "read", "messages", "everything")]
    if not all(isinstance(flag, bool) for flag in flags):
        raise Invalid("certificate, read, messages and everything are true or false")
    certificate, *flags = flags
    if uid is not None and certificate:
        raise Invalid("certificate is for a user, not for a uid")
    if name is not None and not isinstance(password, str) and (password is not None or not certificate):
        raise Invalid("password is missing, or certificate: true")
    if protocol is not None and not isinstance(protocol, str):
        raise Invalid("protocol is a text")
    devices, filters = _texts(item, "devices"), _texts(item, "topics")
    if any(one.count("/") != 1 for one in devices):
        raise Invalid("devices are NAMESPACE/NAME, or NAMESPACE/*")
    if any(not is_filter(one) or one.startswith("$") for one in filters):
        raise Invalid("topics are filters that do not begin with $")
    made = passwords.parsed(password) if isinstance(password, str) else None
    return MqttUser(name or "", -1 if uid is None else uid, made, certificate, protocol or "", devices, filters, *flags)


def _texts(item: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = item.get(name, [])
    if not isinstance(value, list) or len(value) > _MAX_LIST or not all(isinstance(one, str) and one for one in value):
        raise Invalid(f"{name} is a list of at most {_MAX_LIST} texts")
    return tuple(value)
