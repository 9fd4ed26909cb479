"""Values into MySQL (and MariaDB), in the tables that KubeEdge's mappers make, and into PostgreSQL. The drivers are libraries of others in pure
Python, imported when a Device asks for them; an installation without them says so.

Each value has its id in a column that is unique, so a value that came twice is there once.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import ssl
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from kubeedge.devices.sinks import formats
from kubeedge.devices.sinks.core import Destination, PushedValue, ValueRefused
from kubeedge.devices.sinks.credentials import SinkCredentials
from kubeedge.devices.sinks.sender import SenderSettings
from kubeedge.errors import Unavailable

_MAX_NAME = 64  # characters of a table in MySQL
_TABLE = "device_values"  # in PostgreSQL


class Database(Protocol):
    """A connection; all methods block."""

    def insert(self, values: Sequence[PushedValue], queue: str) -> None:
        """In one transaction. Raises ValueRefused, and OSError or Unavailable."""
        ...

    def close(self) -> None:
        """Whatever the other side does."""
        ...


class DatabaseSender:
    """Works in a thread, with time limits on the connection."""

    def __init__(self, destination: Destination, settings: SenderSettings) -> None:
        self._destination, self._settings = destination, settings
        self._database: Database | None = None

    async def deliver(self, values: Sequence[PushedValue], taken: list[PushedValue]) -> None:
        """All in one transaction."""
        try:
            if self._database is None:
                own = await self._settings.credentials(self._destination)
                self._database = await asyncio.to_thread(_opened, self._destination, own)
            await asyncio.to_thread(self._database.insert, values, self._settings.queue)
        except ValueRefused:
            raise
        except BaseException:
            await self.close()
            raise
        taken.extend(values)

    async def close(self) -> None:
        """Cuts the connection, if there is one."""
        database, self._database = self._database, None
        if database is not None:
            await asyncio.to_thread(database.close)


def _opened(destination: Destination, own: SinkCredentials) -> Database:
    try:
        return (_Mysql if destination.kind == "mysql" else _Postgres)(destination, own)
    except ImportError as exc:
        raise Unavailable(
            f"this installation has no driver for {destination.kind}: install kubeedge[databases]"
        ) from exc


def table_name(value: PushedValue) -> str:
    """NAMESPACE/DEVICE/PROPERTY as in KubeEdge, whose characters need no escape; what is too long ends in its hash."""
    name = f"{value.namespace}/{value.device}/{value.prop}"
    if len(name) <= _MAX_NAME:
        return name
    return name[: _MAX_NAME - 17] + "-" + hashlib.sha256(name.encode()).hexdigest()[:16]


class _Mysql:
    """A table for each property: `ts`, `field`, and our `message_id`."""

    def __init__(self, destination: Destination, own: SinkCredentials) -> None:
        import pymysql

        self._errors = pymysql.err
        self._tables: set[str] = set()
        self._made = self._connect(pymysql, destination, own)

    def _connect(self, driver: Any, destination: Destination, own: SinkCredentials) -> Any:
        wait = destination.timeout
        try:
            return driver.connect(
                host=destination.host,
                port=destination.port,
                user=own.user or str(destination.settings.get("userName") or ""),
                password=own.password,
                database=str(destination.settings["database"]),
                charset="utf8mb4",
                connect_timeout=int(wait) or 1,
                read_timeout=wait,
                write_timeout=wait,
                ssl=own.context() if destination.tls else None,
                ssl_disabled=not destination.tls,
            )
        except self._errors.MySQLError as exc:
            raise Unavailable(f"{destination.endpoint}: {exc}") from exc

    def insert(self, values: Sequence[PushedValue], queue: str) -> None:
        """A table that is new is made first."""
        try:
            with self._made.cursor() as cursor:
                for name, some in _by_table(values):
                    self._insert(cursor, name, some, queue)
            self._made.commit()
        except (self._errors.DataError, self._errors.ProgrammingError) as exc:
            self._made.rollback()
            raise ValueRefused(str(exc)) from exc
        except self._errors.MySQLError as exc:
            raise Unavailable(str(exc)) from exc

    def _insert(self, cursor: Any, name: str, values: Sequence[PushedValue], queue: str) -> None:
        if name not in self._tables:
            cursor.execute(
                f"CREATE TABLE IF NOT EXISTS `{name}` (id INT AUTO_INCREMENT PRIMARY KEY, ts DATETIME NOT NULL, field TEXT, "
                "message_id VARCHAR(64) UNIQUE) CHARACTER SET utf8mb4"
            )
            cursor.execute(f"SHOW COLUMNS FROM `{name}` LIKE 'message_id'")
            if cursor.fetchone() is None:  # a mapper of KubeEdge made it
                cursor.execute(f"ALTER TABLE `{name}` ADD COLUMN message_id VARCHAR(64) UNIQUE")
            self._tables.add(name)
        rows = [(formats.date(value.time), value.value, formats.message_id(queue, value)) for value in values]
        statement = f"INSERT INTO `{name}` (ts, field, message_id) VALUES (%s, %s, %s) ON DUPLICATE KEY UPDATE message_id = message_id"
        cursor.executemany(statement, rows)

    def close(self) -> None:
        """Without a goodbye: the other side may not listen."""
        self._made._force_close()


def _by_table(values: Iterable[PushedValue]) -> Iterable[tuple[str, list[PushedValue]]]:
    found: dict[str, list[PushedValue]] = {}
    for value in values:
        found.setdefault(table_name(value), []).append(value)
    return found.items()


class _Postgres:
    """One table, `device_values`; a hypertable of TimescaleDB will do, too."""

    def __init__(self, destination: Destination, own: SinkCredentials) -> None:
        import pg8000.native
        from pg8000.exceptions import DatabaseError, InterfaceError

        self._failures = (InterfaceError, OSError, ssl.SSLError)
        self._wrong = DatabaseError
        self._made: Any = None
        self._socket: socket.socket | None = None
        context = own.context() if destination.tls else False  # None would be TLS that checks no certificate
        try:
            # of our own: of one that the driver makes nothing closes it when the server accepts, and is silent then
            self._socket = socket.create_connection((destination.host, destination.port), destination.timeout)
            self._made = pg8000.native.Connection(
                user=own.user or str(destination.settings.get("userName") or "postgres"),
                password=own.password or None,
                host=destination.host,
                sock=self._socket,
                database=str(destination.settings["database"]),
                ssl_context=context,
            )
            self._made.run(
                f"CREATE TABLE IF NOT EXISTS {_TABLE} (id text PRIMARY KEY, ts timestamptz NOT NULL, namespace text NOT NULL, "
                "device text NOT NULL, property text NOT NULL, type text NOT NULL, value text NOT NULL)"
            )
        except (self._wrong, *self._failures) as exc:
            self.close()
            raise Unavailable(f"{destination.endpoint}: {exc}") from exc
        except BaseException:
            self.close()
            raise

    def insert(self, values: Sequence[PushedValue], queue: str) -> None:
        """In one statement."""
        names = ("id", "ts", "namespace", "device", "property", "type", "value")
        rows: list[str] = []
        arguments: dict[str, Any] = {}
        for number, value in enumerate(values):
            if "\0" in value.value:
                raise ValueRefused("PostgreSQL has no texts with a zero byte")
            row = (
                formats.message_id(queue, value),
                value.time / 1000,
                value.namespace,
                value.device,
                value.prop,
                value.kind,
                value.value,
            )
            arguments |= {f"{name}{number}": one for name, one in zip(names, row, strict=True)}
            rows.append(
                "("
                + ", ".join(f"to_timestamp(:ts{number})" if name == "ts" else f":{name}{number}" for name in names)
                + ")"
            )
        statement = f"INSERT INTO {_TABLE} ({', '.join(names)}) VALUES {', '.join(rows)} ON CONFLICT (id) DO NOTHING"
        try:
            self._made.run(statement, **arguments)
        except self._wrong as exc:
            code = exc.args[0].get("C", "") if exc.args and isinstance(exc.args[0], dict) else ""
            if code.startswith("22"):  # data exception
                raise ValueRefused(f"PostgreSQL answers {code}") from exc
            raise Unavailable(f"PostgreSQL answers {code or exc}") from exc
        except self._failures as exc:
            raise Unavailable(f"PostgreSQL: {exc}") from exc

    def close(self) -> None:
        """Whatever the other side does."""
        with contextlib.suppress(self._wrong, *self._failures):
            if self._made is not None:
                self._made.close()
        if self._socket is not None:
            self._socket.close()
