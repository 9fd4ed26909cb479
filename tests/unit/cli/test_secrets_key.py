"""`kubeedge secrets-key`, with a store that is opened as the agent opens it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api import keys
from kubeedge.cli.main import main
from kubeedge.config import edge
from kubeedge.store import sealing_keys
from kubeedge.store.sqlite import open_sqlite
from kubeedge.store.sqlite_file import SqliteSettings

SECRET = keys.desired("secrets", "default", "db")


def agent(root: Path) -> bytes | None:
    """One life of it: what it reads, and writes if there is nothing."""

    async def scenario() -> bytes | None:
        config = edge.load(root / "etc/kubeedge/kubeedge.yaml")
        config.paths.state.mkdir(parents=True, exist_ok=True)
        keyring = sealing_keys.keyring(config.secrets_encryption, {})
        store = await open_sqlite(config.paths.state / "edge.db", settings=SqliteSettings(keyring=keyring))
        found = await store.get(SECRET)
        if found is None:
            await store.put(SECRET, b"{}")
        await store.close()
        return found.value if found else None

    return asyncio.run(scenario())


def configure(root: Path, text: str) -> None:
    path = root / "etc/kubeedge/kubeedge.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"paths: {{state: {root}/var/lib/kubeedge/edge}}\nsecretsEncryption: {{{text}}}\n")


def test_from_the_first_key_to_another_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key_file = tmp_path / "stick/key"
    key_file.parent.mkdir()

    def kubeedge(*words: str, status: int = 0) -> dict[str, Any]:
        assert main(["secrets-key", *words, "--root-dir", str(tmp_path), "-o", "json"]) == status
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    configure(tmp_path, "enable: false")
    agent(tmp_path)
    assert kubeedge("status")["problems"] == []
    made = kubeedge("generate", str(key_file))
    assert str(key_file) in made["next"] and "warning" in made  # a test has one medium
    assert main(["secrets-key", "generate", str(key_file), "--root-dir", str(tmp_path)]) == 1
    assert "exists" in capsys.readouterr().err

    configure(tmp_path, f"enable: true, keyFile: {key_file}")
    assert "are not encrypted" in "".join(kubeedge("status", status=1)["problems"])
    assert agent(tmp_path) == b"{}"
    said = kubeedge("status", status=1)
    assert said["encryptedWith"] == made["key"] and said["keys"] == [made["key"]] and said["resources"] == ["secrets"]
    assert said["problems"] == ["the key is on the medium of the store: whoever has that has both"]

    new, old = kubeedge("rotate")["keys"]
    assert old == made["key"] and kubeedge("prune")["removed"] == []  # the store has not been rewritten
    assert agent(tmp_path) == b"{}"
    assert kubeedge("prune") == {"file": str(key_file), "keys": [new], "removed": [old]}
    assert agent(tmp_path) == b"{}"

    key_file.rename(key_file.with_name("away"))
    assert agent(tmp_path) is None  # and what it wrote nobody else can read
    said = kubeedge("status", status=1)
    assert "No such file" in said["problems"][0] and new in said["problems"][1]
    key_file.with_name("away").rename(key_file)
    assert agent(tmp_path) == b"{}"
    (tmp_path / "var/lib/kubeedge/edge/edge.db.replaced-1").write_bytes(b"")
    assert kubeedge("status", status=1)["copies"] == [f"{tmp_path}/var/lib/kubeedge/edge/edge.db.replaced-1"]


def test_the_configuration_says_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "kubeedge.yaml"
    path.write_text("secretsEncryption: {enable: true, credential: secrets-key, resources: [secrets, configmaps]}")
    assert edge.load(path).secrets_encryption.resources == ("secrets", "configmaps")
    for text in ("resources: [pods]", "credential: ../etc/passwd", "keyFile: key", "key: x"):
        path.write_text(f"secretsEncryption: {{{text}}}")
        with pytest.raises(Exception, match="secretsEncryption"):
            edge.load(path)
