"""docs/INSTALL.md has nothing that `make fresh` would pass over."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.install.page import Block, blocks

PAGE = Path(__file__).resolve().parents[3] / "docs/INSTALL.md"


def test_every_block_belongs_to_a_machine():
    page = PAGE.read_text(encoding="utf-8")
    found = blocks(page)
    assert {block.machine for block in found} == {"cloud", "node", "debian"}
    assert len(found) == len(re.findall(r"^```", page, re.MULTILINE)) // 2


@pytest.mark.parametrize("fence", ["```sh", "```", "```yaml"])
def test_a_block_that_nobody_runs_is_an_error(fence):
    with pytest.raises(ValueError, match="sh MACHINE"):
        blocks(f"```sh node\ntrue\n```\n\n{fence}\nfalse\n```\n")


def test_values_are_put_in_place_of_whole_words():
    block = Block("node", "join --name NODE CLOUD_HOST; echo NODES $KUBECONFIG\n")
    assert block.text({"NODE": "a", "CLOUD_HOST": "b"}) == "join --name a b; echo NODES $KUBECONFIG\n"
