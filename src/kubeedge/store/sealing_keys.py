"""Files with keys: one a line, 32 bytes in base64; the first one encrypts, all decrypt. '#' begins a comment.

They are read whole at the start, from a file that the configuration names or from a credential that systemd hands over
(systemd.exec, LoadCredentialEncrypted=), which may be sealed to a TPM.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from kubeedge.config.edge import SecretsEncryption
from kubeedge.errors import Invalid
from kubeedge.store.sealing import KEY_SIZE, Key, Keyring

MAX_FILE = 16 * 1024  # bytes; a line has 45
MAX_KEYS = 16
CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"


def read(path: Path) -> tuple[Key, ...]:
    """The keys of a file. Raises Invalid, without what is in it."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as exc:
        raise Invalid(f"{path}: {exc.strerror}") from exc
    lines = [line for line in (line.partition(b"#")[0].strip() for line in data.splitlines()) if line]
    if len(data) > MAX_FILE or len(lines) > MAX_KEYS:
        raise Invalid(f"{path} has more than {MAX_KEYS} keys or {MAX_FILE} bytes")
    if not lines:
        raise Invalid(f"{path} has no key in it")
    return tuple(_key(path, n, line) for n, line in enumerate(lines, 1))


def _key(path: Path, n: int, line: bytes) -> Key:
    try:
        secret = base64.b64decode(line, validate=True)
    except binascii.Error:
        secret = b""
    if len(secret) != KEY_SIZE:
        raise Invalid(f"{path}: key {n} is not {KEY_SIZE} bytes in base64")
    if len(set(secret)) < 4:
        raise Invalid(f"{path}: key {n} is not random")
    return Key(secret)


def write(path: Path, found: Sequence[Key], *, replace: bool = False) -> None:
    """A file with these keys, mode 0600, whole or not at all. Raises Invalid (it exists), OSError."""
    if path.exists() and not replace:
        raise Invalid(f"{path} exists: whoever replaces it loses what its keys have encrypted; `rotate` adds one")
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    text = "".join(base64.b64encode(key.secret).decode() + "\n" for key in found)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(
            "# Keys that encrypt Secrets in the store of kubeedge. The first one encrypts, all decrypt.\n" + text
        )
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def new_key() -> Key:
    """A key from the kernel's random generator."""
    return Key(os.urandom(KEY_SIZE))


def source(config: SecretsEncryption, environment: Mapping[str, str]) -> Path | None:
    """The file to read keys from; None: none is configured. Raises Invalid: systemd has not handed the credential over."""
    if config.key_file is not None or not config.credential:
        return config.key_file
    if not (directory := environment.get(CREDENTIALS_DIRECTORY)):
        raise Invalid(
            f"no ${CREDENTIALS_DIRECTORY}: the unit has no LoadCredential= or LoadCredentialEncrypted= for {config.credential}"
        )
    return Path(directory, config.credential)


def keyring(config: SecretsEncryption, environment: Mapping[str, str], *, required: bool = False) -> Keyring:
    """What is configured, with the keys that are there. Never raises: what lacks is said by who opens the store with it."""
    if not config.enable and config.key_file is None and not config.credential:
        return Keyring(required=required)
    found: tuple[Key, ...] = ()
    problem = ""
    try:
        path = source(config, environment)
        if path is None:
            problem = "secretsEncryption has neither keyFile nor credential"
        else:
            found = read(path)
    except Invalid as exc:
        problem = str(exc)
    return Keyring(config.enable, found, frozenset(config.resources), problem, required)
