"""Who this node is to the servers that values are sent to: a file of the administrator's, read when a connection is made.

    - {endpoint: "influx.example:8086", token: ...}
    - {endpoint: "10.0.0.5:3306", userName: ..., password: ..., caFile: /etc/kubeedge/mysql-ca.crt}
    - {endpoint: "10.0.0.5:6379", secret: plant/redis, caConfigMap: plant/authorities}

The last ones are of the cluster, as far as the node has them: those of its pods (objects.py). They are not in the Device, which many may read. A server gets those of its own address and no others.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import yaml

from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field

_MAX_FILE = 256 * 1024  # bytes
_FIELDS = ("token", "userName", "password", "caFile", "secret", "caConfigMap")


@dataclass(frozen=True, slots=True)
class SinkCredentials:
    """For one server; "" is none."""

    token: str = field(default="", repr=False)
    user: str = ""
    password: str = field(default="", repr=False)
    ca_file: str = ""
    secret: str = ""  # NAMESPACE/NAME of a Secret: userName, password, token, ca.crt
    config_map: str = ""  # NAMESPACE/NAME of a ConfigMap: ca.crt
    ca: str = ""  # PEM

    def context(self) -> ssl.SSLContext:
        """For TLS, with the authorities of the machine or those that are named. Raises OSError, Invalid for what is no PEM."""
        try:
            return ssl.create_default_context(cafile=self.ca_file or None, cadata=self.ca or None)
        except (ssl.SSLError, ValueError) as exc:
            raise Invalid("the authorities of the server are no certificates in PEM") from exc


NONE = SinkCredentials()


def read(path: Path | None, endpoint: str) -> SinkCredentials:
    """Those for HOST:PORT. Raises OSError, and Invalid for a file that is not as it should be. Blocking."""
    if path is None:
        return NONE
    with path.open("rb") as file:
        data = file.read(_MAX_FILE + 1)
    if len(data) > _MAX_FILE:
        raise Invalid(f"{path} has more than {_MAX_FILE} bytes")
    try:
        items = yaml.safe_load(data)
    except (yaml.YAMLError, RecursionError, ValueError) as exc:
        raise Invalid(f"{path} is no YAML") from exc
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and item.get("endpoint") == endpoint:
            values = [item.get(name, "") for name in _FIELDS]
            if not all(isinstance(value, str) for value in values):
                raise Invalid(f"{path}: {', '.join(_FIELDS)} of {endpoint} must be texts")
            return SinkCredentials(*values)
    return NONE
