"""The broker of a node, and who we are there: HOST:PORT, mqtt:// or mqtts://, a user with a password, a client certificate.

What is not said comes from the environment, so that a Deployment may say it: KUBEEDGE_BROKER, and KUBEEDGE_BROKER_USER, _PASSWORD_FILE, _CA_FILE,
_CERT_FILE and _KEY_FILE, which name files that may be of a Secret.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

from kubeedge.errors import Invalid, Misuse
from kubeedge.kit.dataclasses import dataclass
from kubeedge.mqtt.client import MqttClient
from kubeedge.mqtt.codec import MAX_PASSWORD, MAX_USER, Publish

BROKER = "127.0.0.1:1883"
#: settings besides the address, as options of commands name them
LOGIN = ("user", "password_file", "ca_file", "cert_file", "key_file")
_VARIABLE = "KUBEEDGE_BROKER"
_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class NodeBroker:
    """Without `ca_file` the system's authorities are what a broker's certificate is verified by. "": there is none."""

    host: str
    port: int
    is_tls: bool = False
    user: str = ""
    password_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    async def connect(self, client_id: str, received: Callable[[Publish], None]) -> MqttClient:
        """As MqttClient.open. The files are read each time: they may have been renewed. Raises Invalid, too, for a file that is none of its kind."""
        try:
            tls, password = await asyncio.to_thread(self._files)
        except ssl.SSLError as exc:  # an OSError, whose text names no file
            shown = " ".join(filter(None, (self.ca_file, self.cert_file, self.key_file)))
            raise Invalid(f"no certificates in {shown}, or no key of theirs: {exc.reason or exc}") from exc
        except UnicodeDecodeError as exc:
            raise Invalid(f"{self.password_file} is not text") from exc
        login = (self.user, password) if self.user else None
        return await MqttClient.open(self.host, self.port, client_id, received, tls=tls, login=login)

    def _files(self) -> tuple[ssl.SSLContext | None, str | None]:
        password = _password(Path(self.password_file)) if self.password_file else None
        if not self.is_tls:
            return None, password
        for name in filter(None, (self.ca_file, self.cert_file, self.key_file)):
            Path(name).open("rb").close()  # an OSError of ssl names no file
        context = ssl.create_default_context(cafile=self.ca_file or None)
        if self.cert_file:
            context.load_cert_chain(self.cert_file, self.key_file or None, password="")  # nobody is there to type one
        return context, password


def _password(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MAX_PASSWORD + 3)
    text = data.decode().rstrip("\r\n")
    if not 0 < len(text.encode()) <= MAX_PASSWORD:
        raise Invalid(f"{path}: a password has 1 to {MAX_PASSWORD} bytes")
    return text


def node_broker(
    address: str = "", login: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
) -> NodeBroker:
    """Where `address` says, and as who; `login` has names of LOGIN. By default what the environment says, else loopback. Raises Invalid for what is no
    address, and for settings that do not go together."""
    login = login or {}
    if unknown := login.keys() - set(LOGIN):
        raise Misuse(f"{', '.join(sorted(unknown))}: there are {', '.join(LOGIN)}")
    environment = os.environ if environment is None else environment
    found = {name: login.get(name) or environment.get(f"{_VARIABLE}_{name.upper()}", "") for name in LOGIN}
    text = address or environment.get(_VARIABLE) or BROKER
    scheme, separator, rest = text.partition("://")
    if separator and scheme not in _PORTS:
        raise Invalid(f"{text!r} is no broker: HOST:PORT, mqtt://HOST[:PORT], or mqtts://HOST[:PORT] by TLS")
    if not separator:
        scheme, rest = "mqtt", text
    elif ":" not in rest.rpartition("]")[2]:
        rest = f"{rest}:{_PORTS[scheme]}"
    host, port = endpoint(rest)
    made = NodeBroker(host, port, scheme == "mqtts", *(found[name] for name in LOGIN))
    if not made.is_tls and (made.ca_file or made.cert_file or made.key_file):
        raise Invalid(f"{text!r} is no broker with TLS, which certificates are for: mqtts://HOST[:PORT]")
    if made.password_file and not made.user:
        raise Invalid("a password is a user's: say which one")
    if made.key_file and not made.cert_file:
        raise Invalid("a key is a certificate's: say which one")
    if len(made.user) > MAX_USER:
        raise Invalid(f"a user's name has at most {MAX_USER} characters")
    return made


def endpoint(text: str) -> tuple[str, int]:
    """The parts of HOST:PORT. Raises Invalid."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise Invalid(f"{text!r} is no HOST:PORT")
    return host.strip("[]"), int(port)
