"""The two configuration files: their defaults, and keys of earlier versions."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from kubeedge.config import cloud, edge


def test_the_default_file_says_what_each_setting_is_for_and_reads_as_the_defaults(tmp_path: Path) -> None:
    for module in (cloud, edge):
        file = tmp_path / "config.yaml"
        file.write_text(module.default_yaml())
        assert module.default_yaml(module.load(file)) == module.default_yaml()


@pytest.mark.parametrize(
    ("module", "old", "new", "warning"),
    [
        (cloud, "nodeGrace: 20", "nodeMonitorGracePeriod: 20", "nodeGrace is deprecated; use nodeMonitorGracePeriod instead"),
        (
            edge,
            "modules: {webservices: {timeout: 9}}",
            "modules: {publishing: {timeout: 9}}",
            "modules.webservices is deprecated; use modules.publishing instead",
        ),
    ],
)  # fmt: skip
def test_a_key_of_an_earlier_version_is_read_with_a_warning(
    module: object, old: str, new: str, warning: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert module in (cloud, edge)
    read = cloud.load if module is cloud else edge.load
    file = tmp_path / "config.yaml"
    file.write_text(new)
    today = read(file)
    file.write_text(old)
    with caplog.at_level(logging.WARNING):
        assert read(file) == today
    assert [record.getMessage() for record in caplog.records] == [warning]
