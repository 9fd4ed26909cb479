"""Real servers that values of devices are sent to, each a process on loopback for the length of a test: Redis, Mosquitto, MariaDB, PostgreSQL and
VictoriaMetrics (InfluxDB's line protocol) of Debian, unpacked below build/debian by setup.sh."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.kit.certs import Credentials
from tests.kit.ports import ADDRESS, ports

ROOT = Path(__file__).resolve().parents[2]
DEBIAN = ROOT / "build/debian"
WITHIN = 120.0  # seconds that a server has to begin
_SMALL = ("--innodb-use-native-aio=0", "--innodb-buffer-pool-size=16M")
_POSTGRES = "usr/lib/postgresql/*/bin/initdb"


@dataclass(frozen=True)
class DataServer:
    """Where it listens, and the folder that its data are in."""

    port: int
    folder: Path
    pid: int = 0


def _environment() -> dict[str, str]:
    libraries = [*DEBIAN.glob("usr/lib/*-linux-*"), *DEBIAN.glob("lib/*-linux-*")]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, libraries))}


@contextlib.asynccontextmanager
async def _running(
    arguments: Sequence[str | Path], port: int, folder: Path, *, user: str | None = None, stop: int = signal.SIGTERM
) -> AsyncIterator[DataServer]:
    """Until it accepts connections, then until the end of the test."""
    with (folder / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *map(str, arguments), env=_environment(), cwd=folder, stdout=log, stderr=log, user=user
        )
    try:
        async with asyncio.timeout(WITHIN):
            while True:
                assert process.returncode is None, (folder / "log").read_text(errors="replace")[-4000:]
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection(ADDRESS, port)
                    writer.close()
                    break
                await asyncio.sleep(0.05)
        yield DataServer(port, folder, process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(stop)  # some keep what they have acknowledged in memory for a while
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), WITHIN / 4)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _done(*arguments: str | Path, folder: Path, user: str | None = None) -> None:
    with (folder / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *map(str, arguments), env=_environment(), cwd=folder, stdout=log, stderr=log, user=user
        )
    async with asyncio.timeout(WITHIN):
        assert await process.wait() == 0, (folder / "log").read_text(errors="replace")[-4000:]


@contextlib.asynccontextmanager
async def redis(
    folder: Path, port: int = 0, *, password: str = "", tls: Credentials | None = None
) -> AsyncIterator[DataServer]:
    """Debian's redis-server is redis-check-rdb under another name."""
    port = port or ports(1)[0]
    program = folder / "redis-server"
    if not program.exists():
        program.symlink_to(DEBIAN / "usr/bin/redis-check-rdb")
    more = ("--requirepass", password) if password else ()
    listen: tuple[str | Path, ...] = ("--port", str(port))
    if tls is not None:
        files = ("--tls-cert-file", tls.cert, "--tls-key-file", tls.key, "--tls-auth-clients", "no")
        listen = ("--port", "0", "--tls-port", str(port), *files)
    arguments = (program, *listen, "--bind", ADDRESS, "--appendonly", "yes", "--dir", folder, *more)
    async with _running(arguments, port, folder) as server:
        yield server


@contextlib.asynccontextmanager
async def mosquitto(
    folder: Path,
    port: int = 0,
    *,
    login: tuple[str, str] | None = None,
    tls: Credentials | None = None,
    more: Sequence[str] = (),
) -> AsyncIterator[DataServer]:
    """With a password file where a user has to log in. `more`: lines of its configuration."""
    port = port or ports(1)[0]
    lines = [f"listener {port} {ADDRESS}", "user root", f"allow_anonymous {'false' if login else 'true'}", *more]
    if tls is not None:
        lines += [f"certfile {tls.cert}", f"keyfile {tls.key}"]
    if login:
        await _done(DEBIAN / "usr/bin/mosquitto_passwd", "-b", "-c", folder / "users", *login, folder=folder)
        lines.append(f"password_file {folder / 'users'}")
    (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
    async with _running((DEBIAN / "usr/sbin/mosquitto", "-c", folder / "mosquitto.conf"), port, folder) as server:
        yield server


@contextlib.asynccontextmanager
async def mariadb(folder: Path, port: int = 0, *, tls: Credentials | None = None) -> AsyncIterator[DataServer]:
    """The database `plant`, whose user `edge` has the password `secret`."""
    port = port or ports(1)[0]
    program, share = DEBIAN / "usr/sbin/mariadbd", DEBIAN / "usr/share/mysql"
    common = (
        program,
        "--no-defaults",
        f"--lc-messages-dir={share}",
        f"--datadir={folder / 'data'}",
        "--user=root",
        *_SMALL,
    )
    if not (folder / "data").exists():
        (folder / "data").mkdir()
        system = b"".join(
            (share / name).read_bytes() for name in ("mysql_system_tables.sql", "mysql_system_tables_data.sql")
        )
        made = b"CREATE DATABASE IF NOT EXISTS mysql;\nUSE mysql;\n" + system
        (folder / "bootstrap.sql").write_bytes(made)
        with (folder / "bootstrap.sql").open("rb") as script, (folder / "log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *map(str, common), "--bootstrap", env=_environment(), stdin=script, stdout=log, stderr=log
            )
            async with asyncio.timeout(WITHIN):
                assert await process.wait() == 0, (folder / "log").read_text(errors="replace")[-4000:]
        (folder / "init.sql").write_text(
            "CREATE DATABASE IF NOT EXISTS plant;\nCREATE USER IF NOT EXISTS edge@'%' IDENTIFIED BY 'secret';\n"
            "GRANT ALL ON plant.* TO edge@'%';\n"
        )
    more = ("--skip-name-resolve", f"--init-file={folder / 'init.sql'}")
    if tls is not None:
        more += (f"--ssl-cert={tls.cert}", f"--ssl-key={tls.key}", "--require-secure-transport=ON")
    arguments = (*common, f"--port={port}", f"--bind-address={ADDRESS}", f"--socket={folder / 's'}", *more)
    async with _running(arguments, port, folder) as server:
        yield server


@contextlib.asynccontextmanager
async def postgres(folder: Path, port: int = 0, *, tls: Credentials | None = None) -> AsyncIterator[DataServer]:
    """The database `postgres`, whose user `edge` has the password `secret`. It does not run as root, so `folder` is below no folder of root's alone."""
    port = port or ports(1)[0]
    user = "nobody" if os.geteuid() == 0 else None
    data = folder / "data"
    programs = next(found.parent for root in (DEBIAN, Path("/")) for found in sorted(root.glob(_POSTGRES)))
    if not data.exists():
        data.mkdir(mode=0o700)
        (folder / "password").write_text("secret")
        if user is not None:
            for path in (folder, data):
                shutil.chown(path, user)
        options = (
            "-U",
            "edge",
            "-A",
            "scram-sha-256",
            f"--pwfile={folder / 'password'}",
            "--no-locale",
            "-E",
            "UTF8",
            "--no-sync",
        )
        await _done(programs / "initdb", "-D", data, *options, folder=folder, user=user)
    arguments = [programs / "postgres", "-D", data, "-p", str(port), "-h", ADDRESS, "-k", folder, "-c", "fsync=off"]
    if tls is not None:
        for name, source in (("cert", tls.cert), ("key", tls.key)):
            (folder / name).write_bytes(source.read_bytes())
            (folder / name).chmod(0o600)
            if user is not None:
                shutil.chown(folder / name, user)
        arguments += ["-c", "ssl=on", "-c", f"ssl_cert_file={folder / 'cert'}", "-c", f"ssl_key_file={folder / 'key'}"]
        (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    # SIGTERM would wait for those who are connected
    async with _running(arguments, port, folder, user=user, stop=signal.SIGINT) as server:
        yield server


@contextlib.asynccontextmanager
async def victoria(folder: Path, port: int = 0, *, tls: Credentials | None = None) -> AsyncIterator[DataServer]:
    """Takes InfluxDB's writes at /api/v2/write."""
    port = port or ports(1)[0]
    arguments = (
        DEBIAN / "usr/bin/victoria-metrics",
        f"-httpListenAddr={ADDRESS}:{port}",
        f"-storageDataPath={folder / 'data'}",
        "-retentionPeriod=100y",
        "-memory.allowedBytes=64MB",
        *(("-tls", f"-tlsCertFile={tls.cert}", f"-tlsKeyFile={tls.key}") if tls is not None else ()),
    )
    async with _running(arguments, port, folder) as server:
        yield server
