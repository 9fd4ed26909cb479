"""Encryption at rest beside the same store without it: puts and reads of Secrets, and what an agent carries for it."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.demo.memory import pss
from bench.report import Report
from kubeedge.api import keys
from kubeedge.store.model import Store
from kubeedge.store.sealing import Key, Keyring
from kubeedge.store.sqlite import open_sqlite
from kubeedge.store.sqlite_file import SqliteSettings

KEYRING = Keyring(True, (Key(bytes(range(32))),), frozenset(("secrets",)))
PUT_MUST, PUT_AIM = 1.25, 1.05  # seconds, sealed / plain
GET_MUST, GET_AIM = 1.6, 1.25  # processor seconds, sealed / plain
MEMORY_MUST, MEMORY_AIM = 0.5, 0.2  # MB
_SIZE = 900  # bytes: a certificate and its key have three times as much, a password a tenth
_SECRETS = 100

_HOLDER = """
import asyncio, sys
from pathlib import Path
from kubeedge.api import keys
from kubeedge.config.edge import SecretsEncryption
from kubeedge.store.sqlite import open_sqlite
from kubeedge.store.sqlite_file import SqliteSettings
import ssl

async def main():
    settings = SqliteSettings()
    if len(sys.argv) > 2:
        from kubeedge.store.sealing_keys import keyring
        config = SecretsEncryption(enable=True, key_file=Path(sys.argv[2]))
        settings = SqliteSettings(keyring=keyring(config, {}))
    store = await open_sqlite(Path(sys.argv[1]), settings=settings)
    for n in range(100):
        key = keys.desired("secrets", "default", f"s-{n}")
        await store.put(key, b"x" * 900)
        await store.get(key)
    assert "cryptography" not in sys.modules and bool(store.sealing.key) == (len(sys.argv) > 2)
    print("ready", flush=True)
    sys.stdin.read()
    await store.close()

asyncio.run(main())
"""


def _name(n: int) -> str:
    return keys.desired("secrets", "default", f"s-{n % _SECRETS}")


async def _put(store: Store, n: int) -> float:
    value = n.to_bytes(8, "big") + b"x" * (_SIZE - 8)
    begun = time.perf_counter()
    await store.put(_name(n), value)
    return time.perf_counter() - begun


async def _gets(store: Store, count: int) -> float:
    begun = time.process_time()
    for n in range(count):
        await store.get(_name(n))
    return (time.process_time() - begun) / count


async def bench_sealed(out: Report, directory: Path, puts: int, rounds: int) -> None:
    """Put by put in turns, so that the disk is the same for both."""
    plain = await open_sqlite(directory / "plain.db")
    sealed = await open_sqlite(directory / "sealed.db", settings=SqliteSettings(keyring=KEYRING))
    try:
        for n in range(400):
            await _put(plain, n)
            await _put(sealed, n)
        for _ in range(rounds):
            times: tuple[list[float], list[float]] = ([], [])
            for n in range(puts):
                times[0].append(await _put(plain, n))
                times[1].append(await _put(sealed, n))
            without, with_it = (statistics.median(taken) for taken in times)
            out.add("one durable put, sealed / plain", with_it / without, unit="x", must=PUT_MUST, aim=PUT_AIM)
            reads = await _gets(plain, 20 * puts), await _gets(sealed, 20 * puts)
            out.add("one read, processor, sealed / plain", reads[1] / reads[0], unit="x", must=GET_MUST, aim=GET_AIM)
            out.add("one read, sealed, above a plain one", (reads[1] - reads[0]) * 1e6, unit="us")
    finally:
        await plain.close()
        await sealed.close()


def bench_sealed_memory(out: Report, directory: Path, rounds: int) -> None:
    """PSS of a process with a store of Secrets and TLS loaded, with encryption less without."""
    from kubeedge.store import sealing_keys

    key = directory / "key"
    sealing_keys.write(key, KEYRING.keys)
    for n in range(rounds):
        added = _memory(directory / f"with{n}.db", str(key)) - _memory(directory / f"without{n}.db")
        out.add("encryption at rest, memory added", added / 1e6, unit="MB", must=MEMORY_MUST, aim=MEMORY_AIM)


def _memory(path: Path, *key: str) -> float:
    command = [sys.executable, "-c", _HOLDER, str(path), *key]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == "ready\n", "the process with the store ended"
        found = pss(process.pid)
        process.stdin.close()
    return found
