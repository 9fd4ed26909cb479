"""Fixtures that every test may use. Tests marked `root` need namespaces; without root they are listed as skipped."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.kit import log_tails
from tests.kit.topology import Topology

# a loaded machine is slow, not wrong: no test is judged by time; CI tries the same examples every time
settings.register_profile(
    "house",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
)
settings.load_profile("house")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    needs_root = pytest.mark.skip(reason="needs root: network namespaces, TUN, containers")
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(needs_root)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """In CI a skipped test is a failure: it hides what was not checked."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter and reporter.stats.get("skipped") and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


_BEGUN = pytest.StashKey[float]()


def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[_BEGUN] = time.time()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed shows what the processes beside it have said at last."""
    report = yield
    if report.failed and report.when != "teardown":
        report.sections += log_tails.ends(item.stash.get(_BEGUN, 0.0))
    return report


@pytest.fixture
def topology() -> Iterator[Topology]:
    with Topology() as net:
        yield net
