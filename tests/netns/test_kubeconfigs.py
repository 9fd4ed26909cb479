"""Kubeconfigs that are revoked and replaced, from outside: real cloud, real kubectl."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.kit.topology import until
from tests.netns.test_join import KUBECTL, Site, site  # noqa: F401

pytestmark = pytest.mark.root


def as_user(site: Site, config: Path, *arguments: str) -> str:  # noqa: F811
    """What kubectl says, with its errors."""
    command = ["env", f"HOME={site.directory}", KUBECTL, "--kubeconfig", str(config), *arguments]
    return site.cloud.run("sh", "-c", 'exec 2>&1; "$@" || true', "sh", *command)


def id_of(said: str) -> str:
    found = re.search(r"kubeconfig (\w{10}) ", said)
    assert found, said
    return found[1]


def test_a_revoked_kubeconfig_opens_nothing_and_its_watches_end(site: Site) -> None:  # noqa: F811
    alice = site.directory / "alice"
    id = id_of(site.admin("kubeconfig", "create", "--user", "alice", "--ttl", "1h", "--file", str(alice)))
    assert alice.stat().st_mode & 0o777 == 0o600
    assert as_user(site, alice, "create", "configmap", "hers") == "configmap/hers created\n"
    assert re.search(rf"{id} +alice +valid", site.admin("kubeconfig", "list"))
    log = site.directory / "watch.log"
    watch = site.cloud.spawn(
        "env", f"HOME={site.directory}", KUBECTL, "--kubeconfig", str(alice), "get", "configmaps", "-w", log=log
    )
    until(lambda: "hers" in log.read_text(), what="the watch")

    assert site.admin("kubeconfig", "revoke", id) == f"kubeconfig {id} of alice is revoked\n"
    until(
        lambda: watch.poll() is not None, timeout=25, what="the end of the watch"
    )  # not when it is rechecked, after 30 s
    site.kubectl("create", "configmap", "later")
    assert "later" not in log.read_text()
    for _ in range(2):
        refused = as_user(site, alice, "get", "configmaps")
        assert "hers" not in refused and ("nauthorized" in refused or "logged in" in refused), refused
        site.restart_cloud()
    assert re.search(rf"{id} +alice +revoked", site.admin("kubeconfig", "list"))


def test_the_kubeconfig_of_the_administrator_is_replaced(site: Site) -> None:  # noqa: F811
    current, stolen = site.directory / "state/kubeconfig-default", site.directory / "stolen"
    shutil.copy(current, stolen)
    assert "kube-system" in as_user(site, stolen, "get", "namespaces")
    second = id_of(site.admin("kubeconfig", "replace"))
    assert "kube-system" not in as_user(site, stolen, "get", "namespaces")
    assert "kube-system" in site.kubectl("get", "namespaces")

    shutil.copy(current, stolen)
    site.admin("kubeconfig", "revoke", second)  # by its id: there is another in the file at once
    until(lambda: current.read_bytes() != stolen.read_bytes(), what="another kubeconfig in the file")
    assert "kube-system" in site.kubectl("get", "namespaces")
    assert "kube-system" not in as_user(site, stolen, "get", "namespaces")
    states = [k["state"] for k in json.loads(site.admin("kubeconfig", "list", "-o", "json"))["kubeconfigs"]]
    assert sorted(states) == ["revoked", "revoked", "valid"]
