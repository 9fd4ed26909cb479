"""A virtual router on a machine whose nft, or whose kernel, refuses."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from kubeedge.errors import Unavailable
from kubeedge.kubebus.core import RouterSettings
from kubeedge.kubebus.router import open_router

OVERLAY = ("100.64.0.0/16", "10.244.0.0/16", "fd00:100:64::/64", "fd00:10:244::/48")


@pytest.mark.parametrize(("refused", "works"), [("ip6", True), ("ip", False), ("none", True)])
def test_without_translation_of_ipv6_there_is_that_of_ipv4(
    refused: str, works: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, told = tmp_path / "nft", tmp_path / "told"
    program.write_text(f"""#!/bin/sh
rules=$(cat)
case "$rules" in *"table {refused} "*) echo "Operation not supported" >&2; exit 1;; esac
echo "$rules" >> {told}
""")
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name, path="": str(program))
    settings = RouterSettings(subnets=("192.168.7.0/24",), mtu=1400, masquerade=True)

    async def begin() -> None:
        [subnet] = await open_router(settings, "kb0", OVERLAY)
        assert subnet.prefix == "192.168.7.0/24"

    if not works:
        with pytest.raises(Unavailable, match="not supported"):
            asyncio.run(begin())
        return
    asyncio.run(begin())
    rules = told.read_text()
    assert "ip saddr { 100.64.0.0/16, 10.244.0.0/16 }" in rules
    assert ("ip6 saddr { fd00:100:64::/64, fd00:10:244::/48 }" in rules) == (refused == "none")
