"""Serving certificates of nodes: asked of a cluster that signs what was approved, on a virtual clock, with real keys."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from kubeedge.api.client import ObjectList, Resource
from kubeedge.api.names import NodeName, Object
from kubeedge.api.status import AlreadyExists, Forbidden, ObjectModified, ServerUnavailable
from kubeedge.pki import der, trust
from kubeedge_cloud.kubelets import serving, signing
from kubeedge_cloud.kubelets.key_pairs import KeyPairs, PendingKey
from kubeedge_cloud.kubelets.serving import ServingCertificates
from tests.kit import virtual_time
from tests.kit.certs import TestAuthority

START = 1_800_000_000.0
DAY = 86400.0
HOST = "203.0.113.1"
EDGE1, EDGE2 = NodeName("edge1"), NodeName("edge2")


class Cluster:
    """The CSR API: who created what, what was approved; signs at once. `away`: it answers nothing. `forbidden`: nodes that may not ask."""

    def __init__(self, directory: Path, days: float = 90.0) -> None:
        self.authority = TestAuthority(directory, "cluster CA")
        self.requests: dict[str, Object] = {}
        self.days = days
        self.calls: list[str] = []
        self.away = False
        self.forbidden: set[str] = set()

    def by(self, user: str) -> Client:
        return Client(self, user)

    def approve(self, name: str, kind: str = "Approved") -> None:
        self.requests[name]["status"] = {"conditions": [{"type": kind, "status": "True", "message": "so it is"}]}
        self.sign(name)

    def sign(self, name: str) -> None:
        obj = self.requests[name]
        if any(c["type"] == "Approved" for c in obj["status"].get("conditions", ())):
            pem = base64.b64decode(obj["spec"]["request"])
            now = wall()
            made = self.authority.sign(pem, valid=(now, now + self.days * DAY))
            obj["status"]["certificate"] = base64.b64encode(made).decode()

    def open(self) -> list[str]:
        """Nobody has decided about these."""
        return [name for name, obj in self.requests.items() if not obj["status"].get("conditions")]


class Client:
    def __init__(self, cluster: Cluster, user: str) -> None:
        self._cluster, self._user = cluster, user

    def _called(self, what: str) -> None:
        self._cluster.calls.append(f"{what} by {self._user}")
        if self._cluster.away:
            raise ServerUnavailable("away")

    async def create(self, resource: Resource, namespace: str, obj: Object) -> Object:
        self._called("create")
        if self._user in self._cluster.forbidden:
            raise Forbidden("no")
        name = obj["metadata"]["name"]
        if name in self._cluster.requests:
            raise AlreadyExists.of(resource, name)
        spec = {**obj["spec"], "username": self._user}
        self._cluster.requests[name] = {"metadata": {"name": name}, "spec": spec, "status": {}}
        return copy.deepcopy(self._cluster.requests[name])

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        self._called("get")
        return copy.deepcopy(self._cluster.requests[name])

    async def list(self, resource: Resource, namespace: str = "", **selectors: str) -> ObjectList:
        self._called("list")
        assert selectors == {"field_selector": "spec.signerName=kubernetes.io/kubelet-serving"}
        return ObjectList(copy.deepcopy(list(self._cluster.requests.values())), "1")

    async def update(self, resource: Resource, namespace: str, obj: Object, *, subresource: str = "") -> Object:
        self._called(f"update {subresource}")
        name = obj["metadata"]["name"]
        if self._cluster.requests[name]["status"].get("conditions"):
            raise ObjectModified.of(resource, name)
        self._cluster.requests[name]["status"] = copy.deepcopy(obj["status"])
        self._cluster.sign(name)
        return obj


def wall() -> float:
    return START + asyncio.get_running_loop().time()


class World:
    def __init__(self, directory: Path) -> None:
        self.cluster = Cluster(directory)
        self.directory = directory / "kubelets"
        self.changed: list[NodeName] = []
        self.leads = True

    @contextlib.asynccontextmanager
    async def running(
        self, nodes: Sequence[NodeName] = (EDGE1,), *, approves: bool = False, host: str = HOST
    ) -> AsyncIterator[ServingCertificates]:
        async def leads() -> bool:
            return self.leads

        approver: Any = self.cluster.by("cloud") if approves else None
        clients: Any = lambda node: self.cluster.by(f"system:node:{node}")  # noqa: E731
        found = ServingCertificates(
            KeyPairs(self.directory, [host]), clients, approver=approver, leads=leads, changed=self.changed.append,
            wall=wall, chance=lambda: 0.5,
        )  # fmt: skip
        found.want({node: f"uid of {node}" for node in nodes})
        task = asyncio.create_task(found.run())
        try:
            yield found
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def certificate(path: Path | None) -> x509.Certificate:
    assert path is not None and path.stat().st_mode & 0o777 == 0o600
    assert trust.fits(path, path)
    return x509.load_pem_x509_certificate(path.read_bytes()[path.read_bytes().index(b"-----BEGIN CERT") :])


def foreign_key(directory: Path) -> PendingKey:
    return KeyPairs(directory / "other", [HOST]).pending(EDGE1)


def test_a_node_asks_as_itself_and_shows_what_was_approved(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        async with world.running() as found:
            await asyncio.sleep(1)
            (name,) = world.cluster.open()
            spec = world.cluster.requests[name]["spec"]
            assert (spec["username"], spec["signerName"]) == ("system:node:edge1", "kubernetes.io/kubelet-serving")
            assert spec["usages"] == ["digital signature", "server auth"]
            assert found.file_of(EDGE1) is None and not world.changed
            await asyncio.sleep(600)
            assert len(world.cluster.requests) == 1
            world.cluster.approve(name)
            await asyncio.sleep(31)
            made = certificate(found.file_of(EDGE1))
            assert world.changed == [EDGE1]
        of = {attribute.oid: attribute.value for attribute in made.subject}
        assert of == {NameOID.COMMON_NAME: "system:node:edge1", NameOID.ORGANIZATION_NAME: "system:nodes"}
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == [HOST] and len(names) == 1

    virtual_time.run(scenario())


def test_a_cluster_is_not_asked_while_nothing_is_due_and_a_certificate_is_renewed_before_its_end(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        async with world.running(approves=True) as found:
            await asyncio.sleep(5)
            first = found.file_of(EDGE1)
            assert first is not None
            old, calls = first.read_bytes(), len(world.cluster.calls)
            await asyncio.sleep(59 * DAY)
            assert len(world.cluster.calls) == calls and first.read_bytes() == old
            world.cluster.away = True
            await asyncio.sleep(3 * DAY)  # when it is due, the cluster does not answer
            assert first.read_bytes() == old
            assert len(world.cluster.calls) - calls < 2 * 2 * DAY / 600
            world.cluster.away = False
            await asyncio.sleep(700)
            assert der.validity(first.read_bytes()).not_before > START + 61 * DAY
            assert world.changed == [EDGE1, EDGE1]
            certificate(first)

    virtual_time.run(scenario())


def test_a_certificate_that_has_ended_by_our_clock_is_not_asked_for_all_the_time(tmp_path: Path) -> None:
    """The cluster's clock is far behind ours, or its certificates are short-lived."""

    async def scenario() -> None:
        world = World(tmp_path)
        world.cluster.days = 0.0001
        async with world.running(approves=True) as found:
            await asyncio.sleep(5)
            assert found.file_of(EDGE1) is not None
            await asyncio.sleep(3600)
            assert 2 <= sum(call.startswith("create") for call in world.cluster.calls) <= 1 + 3600 / 300
            world.cluster.days = 90.0
            await asyncio.sleep(400)
            certificate(found.file_of(EDGE1))
            calls = len(world.cluster.calls)
            await asyncio.sleep(DAY)
            assert len(world.cluster.calls) == calls

    virtual_time.run(scenario())


def test_a_request_outlives_the_process_and_a_certificate_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        async with world.running():
            await asyncio.sleep(1)
        (name,) = world.cluster.open()
        async with world.running() as found:
            await asyncio.sleep(1)
            assert list(world.cluster.requests) == [name]
            world.cluster.approve(name)
            await asyncio.sleep(31)
            assert found.file_of(EDGE1) is not None
        calls = len(world.cluster.calls)
        async with world.running():
            await asyncio.sleep(DAY)
        assert len(world.cluster.calls) == calls

    virtual_time.run(scenario())


def test_this_process_approves_what_it_has_asked_for_and_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        async with world.running():
            await asyncio.sleep(1)
        (name,) = world.cluster.open()
        foreign = foreign_key(tmp_path)  # somebody was quicker with that name
        world.cluster.requests[name]["spec"]["request"] = base64.b64encode(foreign.request).decode()
        async with world.running(approves=True) as found:
            await asyncio.sleep(1)
            assert world.cluster.open() == [name]
            await asyncio.sleep(400)
            assert world.cluster.open() == [name]
            assert found.file_of(EDGE1) is not None  # by another key, and another name

    virtual_time.run(scenario())


def test_who_was_refused_asks_again_with_another_key_an_hour_later(tmp_path: Path, caplog: Any) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        async with world.running() as found:
            await asyncio.sleep(1)
            (name,) = world.cluster.open()
            world.cluster.approve(name, "Denied")
            await asyncio.sleep(3000)
            assert list(world.cluster.requests) == [name]
            await asyncio.sleep(700)
            assert len(world.cluster.requests) == 2 and found.file_of(EDGE1) is None

    virtual_time.run(scenario())
    assert "Denied: so it is" in caplog.text


def test_a_request_that_the_cluster_has_forgotten_is_made_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        async with world.running() as found:
            await asyncio.sleep(1)
            (name,) = world.cluster.open()
            world.cluster.requests.clear()
            await asyncio.sleep(61)
            assert list(world.cluster.requests) == [name]
            world.cluster.approve(name)
            await asyncio.sleep(31)
            assert found.file_of(EDGE1) is not None

    virtual_time.run(scenario())


def test_one_node_that_may_not_ask_holds_nobody_up(tmp_path: Path, caplog: Any) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        world.cluster.forbidden = {"system:node:edge1"}
        async with world.running([EDGE1, EDGE2], approves=True) as found:
            await asyncio.sleep(5)
            assert found.file_of(EDGE2) is not None and found.file_of(EDGE1) is None
            world.cluster.forbidden.clear()
            await asyncio.sleep(serving._FAULTY + 5)
            assert found.file_of(EDGE1) is not None

    virtual_time.run(scenario())
    assert "node edge1 gets no serving certificate now" in caplog.text


def test_what_is_of_a_node_that_is_gone_is_removed(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        async with world.running([EDGE1, EDGE2]) as found:
            await asyncio.sleep(1)
            world.cluster.approve(next(name for name in world.cluster.open() if name.startswith("edge2")))
            await asyncio.sleep(31)
            found.want({EDGE1: "uid of edge1"})
            for _ in range(2):
                (left,) = world.directory.iterdir()
                assert left.name.startswith("edge1.") and left.suffix == ".pending"
                await asyncio.sleep(100)

    virtual_time.run(scenario())


def test_a_node_of_another_cluster_has_nothing_of_this_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        async with world.running(approves=True) as found:
            await asyncio.sleep(5)
            old = certificate(found.file_of(EDGE1))
            found.want({EDGE1: "../../" * 9})  # a cluster is somebody else's: its words are in no path
            assert found.file_of(EDGE1) is None and world.changed == [EDGE1, EDGE1]
            await asyncio.sleep(5)
            assert certificate(found.file_of(EDGE1)).serial_number != old.serial_number
            assert len(list(world.directory.iterdir())) == 1

    virtual_time.run(scenario())


def test_another_address_takes_another_certificate(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        async with world.running(approves=True):
            await asyncio.sleep(5)
        async with world.running([EDGE1, EDGE2], host="198.51.100.7"):
            await asyncio.sleep(1)
            assert len(world.cluster.open()) == 2
        async with world.running([EDGE1, EDGE2], host="cloud.example.org", approves=True) as found:
            await asyncio.sleep(5)
            names = certificate(found.file_of(EDGE2)).extensions.get_extension_for_class(x509.SubjectAlternativeName)
            assert names.value.get_values_for_type(x509.DNSName) == ["cloud.example.org"]

    virtual_time.run(scenario())


def test_a_process_that_does_not_lead_asks_for_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        world.leads = False
        async with world.running(approves=True) as found:
            await asyncio.sleep(100)
            assert not world.cluster.calls
            world.leads = True
            await asyncio.sleep(15)
            assert found.file_of(EDGE1) is not None

    virtual_time.run(scenario())


def test_a_name_that_no_certificate_can_have_is_said(tmp_path: Path, caplog: Any) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        async with world.running([NodeName("n" * 60), EDGE2], approves=True) as found:
            await asyncio.sleep(5)
            assert found.file_of(EDGE2) is not None

    virtual_time.run(scenario())
    assert f"node {'n' * 60} gets no serving certificate" in caplog.text


@pytest.mark.parametrize(
    "status, refusal",
    [
        ({}, ""),
        ({"conditions": [{"type": "Approved", "status": "True"}]}, ""),
        ({"conditions": [{"type": "Failed", "status": "True", "reason": "SignerFailed"}]}, "Failed: SignerFailed"),
        ({"conditions": [{"type": "Denied", "message": "no"}], "certificate": "AAAA"}, "Denied: no"),
        ({"certificate": "not base64!"}, "a certificate that is not base64"),
        ({"certificate": "A" * 1_000_000}, "a certificate of 1000000 characters"),
        ({"conditions": ["nonsense"], "certificate": ""}, ""),
    ],
)  # fmt: skip
def test_what_became_of_a_request(status: Object, refusal: str) -> None:
    found = signing.outcome({"status": status})
    assert found.refusal.startswith(refusal) and bool(found.refusal) == bool(refusal) and not found.certificate


def test_a_certificate_for_another_key_is_not_taken(tmp_path: Path, caplog: Any) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        async with world.running() as found:
            await asyncio.sleep(1)
            (name,) = world.cluster.open()
            foreign = foreign_key(tmp_path)
            world.cluster.requests[name]["spec"]["request"] = base64.b64encode(foreign.request).decode()
            world.cluster.approve(name)
            await asyncio.sleep(31)
            assert found.file_of(EDGE1) is None and not world.changed

    virtual_time.run(scenario())
    assert "it is for another key" in caplog.text
