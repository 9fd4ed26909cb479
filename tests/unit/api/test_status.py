"""What a client of the API may read of an error."""

from __future__ import annotations

from kubeedge.api.status import of_error
from kubeedge.errors import Unavailable


def test_a_full_disk_is_told_without_its_path() -> None:
    error = Unavailable("database or disk is full", where="/var/lib/kubeedge/cloud/cloud.db")
    assert str(error) == "/var/lib/kubeedge/cloud/cloud.db: database or disk is full"
    status = of_error(error)
    assert (status["code"], status["message"]) == (503, "database or disk is full")
