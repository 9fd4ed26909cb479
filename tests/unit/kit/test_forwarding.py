"""Forwarding is switched off again when it was off before us and nobody else has chains for such packets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kubeedge.kit import forwarding

OTHERS = "table ip docker {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy accept;\n\t}\n}"


@pytest.mark.parametrize(
    ("before", "chains", "legacy", "after"),
    [
        ("0", "", "", "0"),
        ("1", "", "", "1"),
        ("0", OTHERS, "", "1"),
        ("0", "", "raw\nnat\n", "1"),
        ("0", "", "raw\n", "0"),
    ],
)
def test_it_is_as_it_was_unless_somebody_else_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, chains: str, legacy: str, after: str
) -> None:
    switch, ipv6, names, programs = (tmp_path / name for name in ("ip_forward", "forwarding", "names", "bin"))
    for each in (switch, ipv6):
        each.write_text(f"{before}\n")
    names.write_text(legacy)
    programs.mkdir()
    (programs / "nft").write_text(f"#!/bin/sh\ncat <<'end'\n{chains}\nend\n")
    (programs / "nft").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(forwarding, "_SWITCH", switch)
    monkeypatch.setattr(forwarding, "_SWITCH_IPV6", ipv6)
    monkeypatch.setattr(forwarding, "_LEGACY", names)
    forwarding.note(tmp_path)
    for each in (switch, ipv6):  # as the agent does
        each.write_text("1\n")
    forwarding.note(tmp_path)  # it has restarted
    forwarding.restore(tmp_path)
    assert [each.read_text().strip() for each in (switch, ipv6)] == [after] * 2


def test_a_kernel_without_ipv6_has_one_switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "_SWITCH_IPV6", tmp_path / "absent")
    forwarding.note(tmp_path)
    assert not (tmp_path / forwarding.NOTES[1]).exists()
