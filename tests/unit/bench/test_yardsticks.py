"""What the benches compare with, and what they count."""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path

import pytest

from bench.isolation.__main__ import FLOOR, ratio
from bench.isolation.victim import Paced
from bench.peers.__main__ import yardsticks
from bench.peers.systems import END_TO_END, NEWEST, SYSTEMS
from tests.kit.bodies import connection
from tests.kit.certs import TestAuthority


def test_the_newest_peers_are_the_yardstick_where_they_were_measured() -> None:
    assert yardsticks(["yggdrasil", f"yggdrasil{NEWEST}", "tinc"]) == [f"yggdrasil{NEWEST}"]
    assert yardsticks(["yggdrasil", "tinc"]) == ["yggdrasil", "tinc"]
    assert [name for name in SYSTEMS if name.endswith(NEWEST)]
    assert set(END_TO_END) < set(SYSTEMS)


def test_what_is_below_the_floor_is_no_change() -> None:
    floor = FLOOR["API"]
    assert ratio("API", floor / 10, floor / 2) == 1
    assert ratio("API", floor / 10, floor * 4) == 4
    assert ratio("API", floor * 2, floor * 4) == 2


def test_a_request_that_waits_for_a_slow_one_counts_from_when_it_was_due(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("bench.isolation.victim.time.monotonic", lambda: now[0])
    monkeypatch.setattr("bench.isolation.victim.time.sleep", lambda s: now.__setitem__(0, now[0] + s))

    def takes(seconds: float, status: int = 200) -> int:
        now[0] += seconds
        return status

    def gone() -> int:
        raise ConnectionResetError("reset")

    paced = Paced(1.0)
    paced.run("slow", 200, lambda: takes(3.0))  # due at 101, answered at 104
    paced.run("next", 200, lambda: takes(0.5))  # due at 102
    paced.run("late", 200, lambda: takes(0.0, 503))  # due at 103
    paced.run("on time", 200, lambda: gone())  # due at 104
    assert paced.times == pytest.approx([3000, 2500, 1500, 500])
    assert paced.failed == ["late: 503", "on time: ConnectionResetError reset"]


def test_a_client_that_is_measured_does_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its key was a file for a moment, and where the disk discards what is freed, to remove it took up to two seconds: of the API, it seemed."""
    authority = TestAuthority(tmp_path)
    issued = authority.issue("admin")
    encode = lambda path: base64.b64encode(Path(path).read_bytes()).decode()  # noqa: E731
    user = {"client-certificate-data": encode(issued.cert), "client-key-data": encode(issued.key)}
    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"certificate-authority-data": encode(authority.ca)}
    kubeconfig.write_text(json.dumps({"users": [{"user": user}], "clusters": [{"cluster": cluster}]}))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    connection(str(kubeconfig), "127.0.0.1").close()
