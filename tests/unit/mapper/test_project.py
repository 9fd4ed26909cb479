"""A mapper that was just made: its own test passes, it serves a device on a node, its manifests are taken, and it becomes an image."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubeedge.api.validation_kinds import create
from kubeedge.apiserver import devices
from kubeedge.apiserver.builtin import BUILT_IN
from kubeedge.appengine.images.append import append
from kubeedge.appengine.images.archive import import_archive
from kubeedge.appengine.images.store import ImageStore
from kubeedge.cli.main import main
from kubeedge.errors import Invalid
from kubeedge.mapper import project
from tests.kit import images
from tests.unit.mapper.test_mapper import ADDRESS, HALL, Node, on_a_node, until


@pytest.fixture
def made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    directory = tmp_path / "acme"
    assert main(("mapper", "new", "acme", "--directory", str(directory))) == 0
    assert "README.md says" in capsys.readouterr().out
    return directory


def test_what_is_no_mapper_is_said_so(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, why in ((made, "kubeedge mapper run"), (made / "devices.yaml", "line 4: this is no Python")):
        assert main(("mapper", "run", str(path))) == 2
        assert why in capsys.readouterr().err


def test_its_own_test_passes(made: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=made,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout + done.stderr


async def thermostat(values: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := (await reader.readline()).decode().split():
        if line[0] == "SET":
            values[line[1]] = line[2]
        writer.write(f"OK {values[line[1]]}\n".encode())
    writer.close()


def test_it_serves_a_device_of_a_node(made: Path, tmp_path: Path) -> None:
    values = {"temperature": "21.5", "target": "20"}

    async def scenario(node: Node) -> None:
        server = await asyncio.start_server(lambda r, w: thermostat(values, r, w), ADDRESS, 0)
        async with server:
            place = {"host": ADDRESS, "port": server.sockets[0].getsockname()[1]}
            properties: dict[str, Any] = {
                "temperature": {"type": "FLOAT", "accessMode": "ReadOnly", "collectCycle": 20},
                "target": {"type": "INT", "collectCycle": 20, "desired": "22"},
            }
            await node.desire(HALL, properties, "acme", **place)
            command = (sys.executable, "-m", "kubeedge", "mapper", "run", str(made / "mapper.py"))
            mapper = await asyncio.create_subprocess_exec(*command, "--broker", f"{ADDRESS}:{node.port}")
            try:
                await until(lambda: node.reported() == {"temperature": "21.5", "target": "22"}, node.reported)
            finally:
                mapper.terminate()
                assert await mapper.wait() == 0
        assert values["target"] == "22"

    on_a_node(tmp_path, scenario)


def test_its_manifests_are_taken(made: Path) -> None:
    documents = list(yaml.safe_load_all((made / "devices.yaml").read_text()))
    documents += yaml.safe_load_all((made / "deployment.yaml").read_text())
    rows = {row.resource.kind: row for row in (*BUILT_IN, *devices.ROWS)}
    for found in documents:
        row = rows[found["kind"]]
        found["metadata"]["namespace"] = "default"
        row.strategy.fill(found)
        create(row, found)


def test_it_becomes_an_image(made: Path, tmp_path: Path) -> None:
    base = images.build(
        tmp_path / "base.tar", "docker.io/library/python:3", config={"Entrypoint": ["python3"], "Env": ["PATH=/bin"]}
    )
    (made / "__pycache__").mkdir()
    (made / "__pycache__/mapper.pyc").write_text("")
    (made / ".git").mkdir()
    out = tmp_path / "acme.tar"
    options = ("--base", str(base), "--name", project.image_of("acme"), "--output", str(out))
    assert main(("mapper", "image", str(made), *options)) == 0
    first = out.read_bytes()
    (made / "mapper.py").touch()
    assert main(("mapper", "image", str(made), *options)) == 0
    assert out.read_bytes() == first, "the same files are the same image"

    store = ImageStore(tmp_path / "store")
    assert import_archive(store, out) == ["localhost/acme-mapper:1"]
    image = store.find("localhost/acme-mapper:1")
    assert image is not None and len(image.layers) == 2
    assert image.config.command == ("kubeedge", "mapper", "run", "/mapper/mapper.py", "--metrics", "127.0.0.1:10021")
    assert image.config.entrypoint == () and image.config.env == ("PATH=/bin",)
    assert sorted(path.name for path in (image.layers[1] / "mapper").iterdir()) == sorted(project.files_of("acme"))
    assert (image.layers[1] / "mapper/mapper.py").read_text() == (made / "mapper.py").read_text()


def test_an_image_by_another_name_or_of_nothing_is_refused(made: Path, tmp_path: Path) -> None:
    base = images.build(tmp_path / "base.tar", "docker.io/library/python:3")
    cut = tmp_path / "cut.tar"
    with tarfile.open(base) as source, tarfile.open(cut, "w") as target:
        for member in source:
            if "blobs" not in member.name:
                target.addfile(member, source.extractfile(member))
    (tmp_path / "none.tar").write_text("nothing")

    def refused(base: Path, directory: Path = made, target: str = "/mapper", name: str = "x/y:1") -> None:
        with pytest.raises((Invalid, OSError, tarfile.TarError)):
            append(base, directory, target, {}, name, tmp_path / "out.tar")
        assert not (tmp_path / "out.tar").exists() and not list(tmp_path.glob(".out*"))

    refused(cut)
    refused(tmp_path / "none.tar")
    refused(base, target="/../etc")
    refused(base, target="/")
    refused(base, name="UPPER CASE")
    (made / "link").symlink_to("/etc/shadow")
    refused(base)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a b", "a" * 41, "../a", "a\n"])
def test_a_name_that_no_protocol_has_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("mapper", "new", "--", name)) == 2
    assert "is no name of a protocol" in capsys.readouterr().err


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("mine")
    assert main(("mapper", "new", "acme", "--directory", str(tmp_path))) == 2
    assert "is not empty" in capsys.readouterr().err and [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(("text", "says"), [(None, "is not a file"), ("x = 1\n", "has no Mapper of the name `mapper`")])
def test_a_file_without_a_mapper_is_refused(
    tmp_path: Path, text: str | None, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file.py"
    if text is not None:
        file.write_text(text)
    assert main(("mapper", "run", str(file))) == 2
    assert says in capsys.readouterr().err
