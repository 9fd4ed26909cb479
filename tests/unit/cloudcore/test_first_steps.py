"""What a cloud process that has just been started says to its administrator."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kubeedge.config import cloud
from kubeedge_cloud.status import first_steps


def said(caplog: pytest.LogCaptureFixture, hosts: tuple[str, ...], **settings: Any) -> str:
    files = SimpleNamespace(path=lambda tenant: Path(f"/state/kubeconfig-{tenant}"))
    with caplog.at_level(logging.INFO, "kubeedge.status"):
        first_steps.log_them(cloud.CloudConfig(**settings), hosts, cast(Any, files))
    return caplog.text


@pytest.mark.parametrize("hosts", [("127.0.0.1",), ("localhost", "::1"), ("127.0.0.1", "127.0.1.1")])
def test_a_cloud_that_names_its_own_machine_alone_says_so(
    caplog: pytest.LogCaptureFixture, hosts: tuple[str, ...]
) -> None:
    assert "advertise is not set, or names this machine alone" in said(caplog, hosts)


@pytest.mark.parametrize("hosts", [("203.0.113.1",), ("127.0.0.1", "cloud.example.org")])
def test_the_next_commands_are_in_the_log(caplog: pytest.LogCaptureFixture, hosts: tuple[str, ...]) -> None:
    text = said(caplog, hosts)
    assert "names this machine alone" not in text
    assert "export KUBECONFIG=/state/kubeconfig-default" in text
    assert "kubeedge token create --node NAME" in text
    assert f"kubeedge join --token TOKEN --name NAME {hosts[0]}" in text
