"""What a test that failed leaves for who reads its log: the values that a condition compared, the ends of the processes' logs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kit import log_tails
from tests.kit.condition import explained
from tests.kit.topology import CommandFailed, run, until


class Place:
    """Something with a state."""

    def __init__(self) -> None:
        self.names = ["a"]

    def found(self) -> list[str]:
        return self.names

    def whole(self) -> bool:
        missing = {"a", "b"} - set(self.names)
        return not missing

    def broken(self) -> str:
        raise RuntimeError("it is away")


def test_a_wait_that_fails_says_what_was_seen_instead() -> None:
    place, other = Place(), "b"
    with pytest.raises(AssertionError) as failed:
        until(lambda: place.found() == [other, "c"], timeout=0.05, what="both")
    assert str(failed.value) == "both: not within 0.05 s\n  place.found() is ['a']\n  [other, 'c'] is ['b', 'c']"


def test_a_look_at_what_is_not_there_yet_is_one_more_and_the_last_one_is_told(tmp_path: Path) -> None:
    """A command that is refused, a file that comes later, a list that is empty: none of it ends a wait."""
    raised = iter([CommandFailed("refused"), FileNotFoundError("a"), KeyError("status"), None])

    def comes() -> bool:
        if error := next(raised):
            raise error
        return True

    until(comes, what="it comes", interval=0)
    with pytest.raises(AssertionError) as failed:
        until(lambda: (tmp_path / "never").read_text() == "x", timeout=0.05, what="a file")
    assert "a file: not within 0.05 s\n  the last look raised FileNotFoundError: " in str(failed.value)
    with pytest.raises(CommandFailed, match="ended with 7: away") as ended:
        run("sh", "-c", "echo away >&2; exit 7")
    assert isinstance(ended.value, RuntimeError)
    with pytest.raises(RuntimeError, match="it is away"):  # that is no look that came too early
        until(Place().broken, what="nothing")


def test_parts_of_conditions_are_shown_as_they_are_now() -> None:
    place, other = Place(), "b"
    assert explained(lambda: len(place.found()) > 1 and "x" in other) == "\n  place.found() is ['a']\n  other is 'b'"
    assert explained(lambda o=other: any(name == o for name in place.found())) == "\n  place.found() is ['a']"
    assert explained(lambda: "x" in place.broken()) == "\n  place.broken() raises RuntimeError: it is away"
    first, second = lambda: place.found() == [], lambda: other == 'b' and not place.names  # fmt: skip
    assert (
        explained(first) == "\n  place.found() is ['a']"
        and explained(second) == "\n  other is 'b'\n  place.names is ['a']"
    )
    assert "missing is {'b'}" in explained(place.whole) and "its result is False" in explained(place.whole)
    assert "PosixPath('/nowhere')" in explained(Path("/nowhere").exists)
    assert len(explained(lambda: "x" * 100_000 == other)) < 2000
    assert explained(bool) == ""


def test_the_logs_of_a_failed_test_are_those_that_were_written_meanwhile(tmp_path: Path) -> None:
    write = "import sys; sys.stdout.write(sys.argv[1] * 3000)"
    for name, word in (("old", "before "), ("new", "after "), ("empty", "")):
        with open(tmp_path / f"{name}.log", "wb") as log:
            process = subprocess.Popen([sys.executable, "-c", write, word], stdout=log)
        log_tails.keep(tmp_path / f"{name}.log", process)
        process.wait()
        if name == "old":
            time.sleep(0.02)  # the kernel's clock for files has ticks
            begun = time.time()
            time.sleep(0.02)
    (tmp_path / "new.log").unlink()  # as a fixture that failed has cleaned up
    found = {title.split("/")[1]: text for title, text in log_tails.ends(begun) if tmp_path.name in title}
    assert list(found) == ["new.log, 18000 bytes"]
    assert found["new.log, 18000 bytes"] == "after " * 1000
