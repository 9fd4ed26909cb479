"""Variables from files of a volume: what is read, and what is not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api.pod import Pod
from kubeedge.appengine import env_file_reader, env_files, resolve
from kubeedge.appengine.env_file_reader import MAX_FILE, MAX_FILES
from kubeedge.errors import Invalid
from tests.unit.appengine.world import container, pod

FILE = """
# written by an init container
FIRST='one'
  SECOND='two words'   # and a comment
LINES='a
 b'c' is not allowed here
"""


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("A='1'", "A", "1"),
        ("\n\n  # c\n\tA='1'\nB='2'", "B", "2"),
        ("A='1'\nA='2'", "A", "1"),
        ("A=''", "A", ""),
        ("A= '1'\nB='2'", "A", ""),
        ("A= '1'\nB='2'", "B", "2"),
        ("A='1' # c\r\nB='2'\r\n", "B", "2"),
        ("A='a\n b\n\n=c'\nB='2'", "A", "a\n b\n\n=c"),
        ("A='a\nB=b'\nB='2'", "B", "2"),
        ("A='$(B) \"x\" \\n'", "A", '$(B) "x" \\n'),
        ("A='1'", "B", ""),
        ("", "A", ""),
        (FILE, "SECOND", "two words"),  # what comes behind it is not looked at
    ],
)
def test_a_value_stands_in_single_quotes(text: str, key: str, value: str) -> None:
    assert env_files.find(text, key) == value


@pytest.mark.parametrize(
    "text", ["A", "A=1", 'A="1"', "='1'", "A ='1'", "A='1", "A='1\n\n", "A='1'2", "A='1' B='2'", "A='1''2'", "A=", FILE]
)
def test_another_form_is_a_mistake(text: str) -> None:
    with pytest.raises(Invalid):
        env_files.find(text, "Z")


def test_a_file_is_read_below_its_volume_and_nothing_else(tmp_path: Path) -> None:
    volume = tmp_path / "v"
    (volume / "a/b").mkdir(parents=True)
    (volume / "a/b/env").write_text("A='1'")
    (tmp_path / "secret").write_text("A='of the node'")
    (volume / "link").symlink_to(tmp_path / "secret")
    (volume / "up").symlink_to("..")
    os.mkfifo(volume / "pipe")
    (volume / "full").write_bytes(b"#" * MAX_FILE)
    (volume / "over").write_bytes(b"#" * (MAX_FILE + 1))
    (volume / "bytes").write_bytes(b"A='\xff'")
    assert env_file_reader.read(volume, "a/./b/env") == "A='1'"
    assert (
        env_file_reader.read(volume, "full") == "#" * MAX_FILE and env_file_reader.read(volume, "bytes") == "A='\ufffd'"
    )
    assert env_file_reader.read(volume, "nothing") is None and env_file_reader.read(volume, "a/b/env/x") is None
    assert env_file_reader.read(tmp_path / "none", "env") is None
    assert env_file_reader.read(volume, "up/secret") is None
    for path in ("link", "pipe", "over", "a"):
        with pytest.raises((OSError, Invalid)):
            env_file_reader.read(volume, path)


def with_key(**fields: Any) -> Pod:
    ref = {"volumeName": "v", "path": "env", "key": "A", **fields}
    env = [{"name": "X", "valueFrom": {"fileKeyRef": ref}}, {"name": "Y", "value": "<$(X)>"}]
    return pod(volumes=[{"name": "v", "emptyDir": {}}], containers=[container(env=env)])


def environment(of: Pod, files: dict[tuple[str, str], str | None]) -> dict[str, str]:
    return resolve.environment(
        of, of.containers[0], lambda *_: None, pod_ip="", host_ip="", node="n", files=files
    )  # fmt: skip


def test_a_variable_has_the_value_of_its_key(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("A='1'")
    files = env_file_reader.read_all(with_key().containers[0], lambda name: tmp_path)
    assert files == {("v", "env"): "A='1'"} and environment(with_key(), files) == {"X": "1", "Y": "<1>"}


@pytest.mark.parametrize("content", [None, "", "B='1'", "A=''"])
def test_one_that_is_not_there_is_missing_unless_it_is_optional(content: str | None) -> None:
    files = {("v", "env"): content}
    assert with_key().unsupported == ()
    assert environment(with_key(optional=True), files) == {"Y": "<$(X)>"}
    with pytest.raises(resolve.Missing, match="key .* not found"):
        environment(with_key(), files)


def test_a_container_has_so_many_files(tmp_path: Path) -> None:
    def variables(count: int) -> list[dict[str, Any]]:
        refs = [{"volumeName": "v", "path": f"f{n}", "key": "A", "optional": True} for n in range(count)]
        return [{"name": f"X{n}", "valueFrom": {"fileKeyRef": ref}} for n, ref in enumerate(refs)]

    def of(count: int) -> Pod:
        return pod(volumes=[{"name": "v", "emptyDir": {}}], containers=[container(env=variables(count))])

    assert len(env_file_reader.read_all(of(MAX_FILES).containers[0], lambda name: tmp_path)) == MAX_FILES
    with pytest.raises(Invalid):
        env_file_reader.read_all(of(MAX_FILES + 1).containers[0], lambda name: tmp_path)


@pytest.mark.parametrize(
    "fields",
    [
        {"volumeName": ""}, {"volumeName": "other"}, {"volumeName": "../v"}, {"volumeName": 1}, {"path": ""}, {"path": "/env"},
        {"path": "a/../../b"}, {"path": "a\0"}, {"path": "x" * 5000}, {"key": ""}, {"key": "A=B"}, {"key": "ä"}, {"key": None},
        {"optional": "yes"},
    ],
)  # fmt: skip
def test_references_that_are_none_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        with_key(**fields)


def test_only_an_empty_dir_has_such_files() -> None:
    env = [{"name": "X", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "env", "key": "A"}}}]
    with pytest.raises(Invalid, match="emptyDir"):
        pod(volumes=[{"name": "v", "hostPath": {"path": "/etc"}}], containers=[container(env=env)])
