"""Settings of `modules.devices`."""

from __future__ import annotations

from pathlib import Path

from kubeedge.config import forms
from kubeedge.config.load import section, setting
from kubeedge.kit.dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalBrokerConfig:
    """`modules.devices.externalBroker`: a broker of somebody else's, which is used instead of the agent's own."""

    url: str = setting(
        "",
        'mqtt://HOST[:PORT] or mqtts://HOST[:PORT] of a broker with MQTT 5; "": the agent has its own. Needs the package aiomqtt',
        form=forms.optional_broker,
    )
    user_name: str = setting("", "user at that broker")
    password_file: Path | None = setting(None, "file with the user's password")
    ca_file: Path | None = setting(None, "authorities of its certificate, PEM; the system's without it")
    cert_file: Path | None = setting(None, "our certificate for it, PEM")
    key_file: Path | None = setting(None, "private key of that certificate")


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttTlsConfig:
    """`modules.devices.mqttTls`: a second listener of the broker, for other machines of the site. It needs `mqttUsers`."""

    listen: str = setting("", 'HOST:PORT, as 0.0.0.0:8883; "": none', form=forms.optional_ip_endpoint)
    cert_file: Path | None = setting(None, "certificate of the broker, PEM; read for each connection")
    key_file: Path | None = setting(None, "private key of that certificate")
    client_ca_file: Path | None = setting(
        None,
        "authorities of client certificates, PEM, by whose names users with `certificate: true` come; none: passwords",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicesConfig:
    """`modules.devices`: the devices of this node (docs/guide/devices.md)."""

    enable: bool = setting(False, "devices of this node: their twins, and an MQTT broker for mappers and programs")
    mqtt: str = setting(
        "127.0.0.1:1883",
        "where the broker listens: a loopback address, as without mqttUsers every program that reaches it may use every device",
        form=forms.loopback_endpoint,
    )
    mqtt_users: Path | None = setting(
        None,
        "file with the users of the broker and their rights (docs/guide/mqtt-users.md); none: all may do everything",
    )
    mqtt_tls: MqttTlsConfig = section(MqttTlsConfig())
    dmi: str = setting(
        "",
        'socket for KubeEdge\'s mappers (DMI), as unix:///etc/kubeedge/dmi.sock; "": none',
        form=forms.optional_unix_socket,
    )
    method_servers: tuple[str, ...] = setting(
        (),
        "where mappers of KubeEdge's framework serve methods of their devices, by protocol: PROTOCOL=127.0.0.1:7777",
        form=forms.method_server,
    )
    mappers: tuple[str, ...] = setting(
        (),
        "mappers that the agent runs, all of them in one process that it starts again when it ends: gpio, can, serial, modbus, ... "
        "(docs/guide/mappers.md)",
        form=forms.mapper,
    )
    history_max_mib: int = setting(
        32, "MiB of disk for the history of properties, of all devices together", low=1, high=65536
    )
    history_max_days: int = setting(30, "days that values are kept in the history, if there is room", low=1, high=3650)
    external_broker: ExternalBrokerConfig = section(ExternalBrokerConfig())
    push: bool = setting(
        True, "send values of properties with a `pushMethod` from this node; false: mappers of KubeEdge send their own"
    )
    push_queue_max_mib: int = setting(
        16,
        "MiB of disk for values that wait for the servers of `pushMethod`, of all devices together",
        low=1,
        high=65536,
    )
    push_queue_max_days: int = setting(7, "days that such values wait", low=1, high=3650)
    push_credentials: Path | None = setting(
        None, "file with the users, passwords and tokens for these servers (docs/guide/sinks.md)"
    )
    messages: bool = setting(
        True,
        "keep messages of programs for the cloud until it has them (SYS/dis/upload_records, $hw/events/upload/#, +/user/#; docs/guide/messages.md)",
    )
    messages_max_mib: int = setting(16, "MiB of disk for such messages; the oldest ones give way", low=1, high=65536)
    messages_max_days: int = setting(30, "days that they wait for the cloud", low=1, high=3650)
    service_bus: str = setting(
        "",
        "where programs ask for REST endpoints that rules of the cloud name (ServiceBus), a loopback address, as 127.0.0.1:9060; "
        '"": nowhere. Needs `messages`',
        form=forms.optional_loopback,
    )
    service_bus_timeout: float = setting(
        10.0,
        "seconds that such a program waits for what the endpoint answers, before it hears that its request is on its way; 0: not at all",
        low=0.0,
        high=60.0,
    )
    rules: bool = setting(
        False,
        "rules of the cloud may publish on the broker, and call HTTP services on 127.0.0.1 of this node (docs/guide/rules.md)",
    )
    rule_ports: tuple[str, ...] = setting(
        (),
        "ports of 127.0.0.1 whose services rules may call, PORT or FIRST-LAST, as 8080 or 9000-9099; none: all of them",
        form=forms.port_range,
    )
