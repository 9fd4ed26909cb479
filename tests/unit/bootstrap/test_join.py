"""Real TLS on loopback, the machine's side is the product's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509

from kubeedge.api import keys
from kubeedge.api.names import DEFAULT_TENANT, NodeName, TenantId
from kubeedge.api.node_registration import NOTHING
from kubeedge.errors import Conflict, Invalid, Refused, Unavailable
from kubeedge.pki import csr, tokens
from kubeedge.pki.identity import NodeIdentity, parse
from kubeedge_cloud.authority.ca import Authority
from kubeedge_cloud.tenants.manager import TenantManager
from tests.unit.bootstrap.cloud import Cloud, Machine

DAY = 86400.0


def scenario(tmp_path: Path, told, **options):
    async def run():
        async with Cloud(tmp_path, **options) as cloud:
            return await asyncio.wait_for(told(cloud), 120)

    return asyncio.run(run())


def uri_of(pem: bytes | str) -> str:
    made = x509.load_pem_x509_certificate(pem if isinstance(pem, bytes) else pem.encode())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    [uri] = names.get_values_for_type(x509.UniformResourceIdentifier)
    return uri


def test_a_token_buys_a_certificate_that_names_tenant_and_node(tmp_path):
    async def told(cloud):
        answer = await cloud.join(await cloud.token("edge1", tenant=TenantId("acme")), "edge1")
        who = parse(uri_of(answer["certificate"]))
        assert (who.tenant, who.node) == ("acme", "edge1")
        assert {k: answer[k] for k in answer if k != "certificate"} == {
            "tenant": "acme", "node": "edge1", "number": 1, "address": "100.64.0.1/16", "podCIDR": "10.244.1.0/24",
            "hub": ["127.0.0.1:10000"], "relays": ["127.0.0.1:10010"], "bootstrap": ["127.0.0.1:1"],
        }  # fmt: skip
        [record] = await cloud.tokens.list(TenantId("acme"))
        assert (record.state(time.time()), record.used_by) == ("used", "edge1")

    scenario(tmp_path, told)


def test_a_token_works_once(tmp_path):
    async def told(cloud):
        token = await cloud.token()
        await cloud.join(token, "edge1")
        for name in ("edge1", "edge2"):
            with pytest.raises(Refused, match="used already, for node edge1") as error:
                await cloud.join(token, name)
            assert "kubeedge token create" in error.value.__notes__[0]

    scenario(tmp_path, told)


def test_the_same_machine_may_ask_again_when_the_answer_was_lost(tmp_path):
    async def told(cloud):
        token, machine = await cloud.token("edge1"), Machine()
        first = await cloud.join(token, "edge1", machine)
        again = await cloud.join(token, "edge1", machine)
        assert again["number"] == first["number"] and again["certificate"] != first["certificate"]
        cloud.off = 601
        with pytest.raises(Refused, match="used already"):
            await cloud.join(token, "edge1", machine)

    scenario(tmp_path, told)


def test_of_many_machines_with_one_token_exactly_one_becomes_the_node(tmp_path):
    async def told(cloud):
        token = await cloud.token()
        answers = await asyncio.gather(*(cloud.join(token, f"edge{n}") for n in range(6)), return_exceptions=True)
        assert sum(isinstance(a, dict) for a in answers) == 1
        assert all(isinstance(a, dict | Refused) for a in answers)

    scenario(tmp_path, told)


def test_of_many_tokens_for_one_name_exactly_one_gets_it(tmp_path):
    async def told(cloud):
        made = [await cloud.token("edge1") for _ in range(6)]
        answers = await asyncio.gather(*(cloud.join(t, "edge1") for t in made), return_exceptions=True)
        assert sum(isinstance(a, dict) for a in answers) == 1
        assert all(isinstance(a, dict | Refused | Conflict) for a in answers)

    scenario(tmp_path, told)


@pytest.mark.parametrize("reason", ["expired", "revoked", "wrong node", "wrong secret", "unknown id"])
def test_a_token_that_is_not_good_is_refused_with_its_reason(tmp_path, reason):
    async def told(cloud):
        token = await cloud.token("edge1")
        node, words = "edge1", ""
        match reason:
            case "expired":
                cloud.off, words = 3 * DAY, "this token expired 3 days ago"
                client_clock = cloud.clock
            case "revoked":
                await cloud.tokens.revoke(DEFAULT_TENANT, token.id)
                words = "this token was revoked"
            case "wrong node":
                node, words = "edge2", "this token is for node edge1, not for edge2"
            case "wrong secret":
                token, words = tokens.Token(token.ca_hash, token.id, "a" * 32), "this token is not known here"
            case "unknown id":
                token, words = tokens.Token(token.ca_hash, "aaaaaa", token.secret), "this token is not known here"
        client = cloud.client(clock=client_clock) if reason == "expired" else cloud.client()
        with pytest.raises(Refused, match=words):
            await asyncio.to_thread(Machine().join, client, token, node)
        assert cloud.registry.nodes == {}

    scenario(tmp_path, told)


def test_the_token_of_another_cloud_is_noticed_before_anything_is_said_to_this_one(tmp_path):
    async def told(cloud):
        token = await cloud.token()
        foreign = tokens.Token(Authority(tmp_path / "other").hash, token.id, token.secret)
        with pytest.raises(Refused, match="is not the one that the token names"):
            await cloud.join(foreign, "edge1")
        assert (await cloud.tokens.list(DEFAULT_TENANT))[0].state(time.time()) == "valid"

    scenario(tmp_path, told)


def test_a_name_that_is_taken_needs_a_token_that_replaces(tmp_path):
    async def told(cloud):
        old, new = Machine(), Machine()
        await cloud.join(await cloud.token("edge1"), "edge1", old)
        with pytest.raises(Conflict, match="node edge1 exists in tenant default") as error:
            await cloud.join(await cloud.token("edge1"), "edge1")
        assert "--replace" in error.value.__notes__[0]
        answer = await cloud.join(await cloud.token("edge1", replace=True), "edge1", new)
        assert answer["number"] == 1
        with pytest.raises(Refused, match="replaced by a later one"):
            await asyncio.to_thread(old.renew, cloud.client())
        await asyncio.to_thread(new.renew, cloud.client())

    scenario(tmp_path, told)


def test_the_same_name_in_another_tenant_is_another_node(tmp_path):
    async def told(cloud):
        await cloud.join(await cloud.token("edge1"), "edge1")
        answer = await cloud.join(await cloud.token("edge1", tenant=TenantId("acme")), "edge1")
        assert answer["tenant"] == "acme"

    scenario(tmp_path, told)


def test_the_name_of_a_node_that_was_removed_is_free_again(tmp_path):
    async def told(cloud):
        machine = Machine()
        await cloud.join(await cloud.token("edge1"), "edge1", machine)
        cloud.registry.nodes.clear()
        with pytest.raises(Refused, match="not known here any more"):
            await asyncio.to_thread(machine.renew, cloud.client())
        await cloud.join(await cloud.token("edge1"), "edge1")

    scenario(tmp_path, told)


def test_a_join_that_fails_in_the_cloud_does_not_use_up_the_token(tmp_path):
    async def told(cloud):
        token = await cloud.token("edge1")
        cloud.registry.full = True
        with pytest.raises(Unavailable, match="no more numbers"):
            await cloud.join(token, "edge1")
        cloud.registry.full = False
        await cloud.join(token, "edge1")

    scenario(tmp_path, told)


@pytest.mark.parametrize(("off", "words"), [(365, "365 days"), (-365, "365 days"), (0.5, "12.0 hours")])
def test_a_machine_that_lives_in_another_year_is_told_so(tmp_path, off, words):
    async def told(cloud):
        client = cloud.client(clock=lambda: time.time() + off * DAY)
        with pytest.raises(Invalid, match=f"the clock of this machine is off by {words}"):
            await asyncio.to_thread(Machine().join, client, await cloud.token(), "edge1")

    scenario(tmp_path, told)


@pytest.mark.parametrize(("off", "words"), [(2 * DAY, "not valid yet"), (-370 * DAY, "expired")])
def test_a_certificate_out_of_its_time_makes_the_clock_a_suspect(tmp_path, off, words):
    async def told(cloud):
        with pytest.raises(Invalid, match=f"is {words} by the clock of this machine, which says 20"):
            await cloud.join(await cloud.token(), "edge1")

    scenario(tmp_path, told, authority_clock_off=off)


def test_wrong_tokens_are_heard_ten_times_a_minute(tmp_path):
    async def told(cloud):
        good = await cloud.token("edge1")
        wrong = tokens.Token(good.ca_hash, good.id, "a" * 32)
        for _ in range(10):
            with pytest.raises(Refused, match="not known here"):
                await cloud.join(wrong, "edge1")
        with pytest.raises(Unavailable, match="too many wrong tokens from 127.0.0.1") as error:
            await cloud.join(good, "edge1")
        assert 50 < error.value.retry_after <= 60
        cloud.passed = 61
        await cloud.join(good, "edge1")

    scenario(tmp_path, told)


def test_a_clock_that_is_set_back_silences_nobody_for_longer(tmp_path):
    async def told(cloud):
        good = await cloud.token("edge1")
        wrong = tokens.Token(good.ca_hash, good.id, "a" * 32)
        for _ in range(10):
            with pytest.raises(Refused, match="not known here"):
                await cloud.join(wrong, "edge1")
        cloud.off, cloud.passed = -200, 61
        await cloud.join(good, "edge1")
        for _ in range(10):
            with pytest.raises(Refused, match="not known here"):
                await cloud.join(wrong, "edge1")
        cloud.off = 200  # and one that is set forward lets nobody guess on
        with pytest.raises(Unavailable, match="too many wrong tokens"):
            await cloud.join(good, "edge1")

    scenario(tmp_path, told)


async def ask(cloud, method: str, target: str, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, dict]:
    """One raw request over TLS."""
    context = ssl.create_default_context(cafile=str(cloud.authority.certificate_file))
    reader, writer = await asyncio.open_connection("127.0.0.1", cloud.port, ssl=context)
    head = f"{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n"
    head += "".join(f"{k}: {v}\r\n" for k, v in (headers or {}).items())
    writer.write(head.encode() + b"\r\n" + body)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    text = await reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), json.loads(text)


REQUEST = csr.request_pem(csr.new_key(), "x").decode()


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "not JSON"),
        (b"null", 400, "not a JSON object"),
        (b"7", 400, "not a JSON object"),
        (b"[]", 400, "not a JSON object"),
        (b'"x"', 400, "not a JSON object"),
        (b"\xff\xfe\x00", 400, "not JSON"),
        (b"[" * 40_000, 400, "not JSON"),
        (b"{}", 400, "node: text is required"),
        (b'{"node": null, "csr": null}', 400, "node: text is required"),
        (b'{"node": {"a": 1}, "csr": "x"}', 400, "node: text is required"),
        (b'{"node": "../../x", "csr": "x"}', 400, "'../../x' is not an RFC 1123 label"),
        (b'{"node": "edge1"}', 400, "csr: text is required"),
        (b'{"node": "edge1", "csr": "garbage"}', 400, "csr: not a certificate request"),
        (b'{"node": "edge1", "csr": "' + b"A" * 17_000 + b'"}', 400, "at most 16384"),
        (b'{"node": "edge1", "csr": "' + b"A" * 60_000 + b'"}', 413, "more than 49152 bytes"),
        (json.dumps({"node": "edge1", "csr": REQUEST}).encode(), 403, "a token looks like"),
    ],
)
def test_bad_input_gets_a_clear_answer_and_changes_nothing(tmp_path, body, status, words):
    async def told(cloud):
        got, answer = await ask(cloud, "POST", "/v1/join", body, {"authorization": "Bearer null"})
        assert (got, words in answer["error"]) == (status, True), answer
        assert cloud.registry.nodes == {}

    scenario(tmp_path, told)


def test_unauthenticated_peers_find_nothing_else(tmp_path):
    async def told(cloud):
        body = json.dumps({"node": "edge1", "csr": REQUEST}).encode()
        assert (await ask(cloud, "POST", "/v1/join", body))[0] == 403
        assert (await ask(cloud, "POST", "/v1/join", body, {"authorization": "Basic Zm9vOmJhcg=="}))[0] == 403
        for method, target in (("GET", "/"), ("GET", "/v1/join"), ("DELETE", "/ca.crt"), ("GET", "/../ca.key")):
            assert (await ask(cloud, method, target, b""))[0] == 404

    scenario(tmp_path, told)


async def plain(cloud, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", cloud.port)
    writer.write(data)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def test_without_tls_there_is_the_ca_certificate_and_nothing_else(tmp_path):
    async def told(cloud):
        got = await plain(cloud, b"GET /ca.crt HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 200 ") and got.endswith(cloud.authority.pem)
        assert b"PRIVATE" not in got
        for line in (b"POST /v1/join", b"GET /v1/nonce", b"POST /v1/renew", b"GET /ca.key"):
            got = await plain(cloud, line + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert got.startswith(b"HTTP/1.1 404 ")

    scenario(tmp_path, told)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16",
        b"\x16\x03\x01\xff\xff" + b"\0" * 100,
        b"\0" * 64,
        b"null\r\n\r\n",
        b"GET " + b"a" * 20_000,
        b"\xff" * 20_000,
    ],
    ids=["tls-start", "tls-garbage", "zeros", "null", "long line", "ff"],
)
def test_garbage_costs_one_connection_and_the_next_is_served(tmp_path, data):
    async def told(cloud):
        reader, writer = await asyncio.open_connection("127.0.0.1", cloud.port)
        writer.write(data)
        writer.write_eof()
        await reader.read()
        writer.close()
        await writer.wait_closed()
        await cloud.join(await cloud.token(), "edge1")

    scenario(tmp_path, told)


def test_one_address_cannot_take_all_connections(tmp_path):
    async def told(cloud):
        silent = [await asyncio.open_connection("127.0.0.1", cloud.port) for _ in range(300)]
        half = [await asyncio.open_connection("127.0.0.1", cloud.port) for _ in range(60)]
        for _, writer in half:
            writer.write(b"\x16")  # and no more of its handshake
        await cloud.join(await cloud.token(), "edge1")  # beside them, from the same address
        for reader, _ in (*silent, *half):
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 30) == b""
        for _, writer in (*silent, *half):
            writer.close()
        await asyncio.gather(*(w.wait_closed() for _, w in (*silent, *half)), return_exceptions=True)

    scenario(tmp_path, told)


def test_tokens_are_kept_without_their_secrets_and_end_when_they_are_old(tmp_path):
    async def told(cloud):
        made = [await cloud.token("edge1", ttl=60.0) for _ in range(120)]
        kept = await cloud.store.range("/", keys.prefix_end("/"))
        assert not any(made[0].secret.encode() in kv.value for kv in kept.kvs)
        cloud.off = 8 * DAY
        await cloud.token("edge1")
        assert len(await cloud.tokens.list(DEFAULT_TENANT)) == 1

    scenario(tmp_path, told)


@pytest.mark.parametrize("ttl", [0.0, -1.0, float("nan"), float("inf"), 366 * DAY])
def test_a_token_lives_for_a_time_that_makes_sense(tmp_path, ttl):
    async def told(cloud):
        with pytest.raises(Invalid, match="ttl"):
            await cloud.token(ttl=ttl)

    scenario(tmp_path, told)


def join_of(machine: Machine) -> str:
    return parse(uri_of(machine.certificate)).join


def test_each_join_has_an_id_and_only_the_newest_stands_for_the_node(tmp_path):
    async def told(cloud):
        first, second = Machine(), Machine()
        token = await cloud.token("edge1")
        await cloud.join(token, "edge1", first)
        before = join_of(first)
        await cloud.join(token, "edge1", first)  # the answer was lost
        assert join_of(first) == before == cloud.registry.joins["default", "edge1"]
        await cloud.join(await cloud.token("edge1", replace=True), "edge1", second)
        assert join_of(second) == cloud.registry.joins["default", "edge1"] != before
        with pytest.raises(Refused, match="replaced by a later one"):
            await asyncio.to_thread(first.renew, cloud.client())
        await asyncio.to_thread(second.renew, cloud.client())
        assert join_of(second) == cloud.registry.joins["default", "edge1"]

    scenario(tmp_path, told)


@pytest.mark.parametrize("what", ["removed", "removed, and its name taken", "replaced"])
def test_a_used_token_brings_no_node_back_that_was_removed_or_replaced(tmp_path, what):
    async def told(cloud):
        thief, token = Machine(), await cloud.token("edge1", replace=True)
        await cloud.join(token, "edge1", thief)
        if what != "replaced":
            cloud.registry.nodes.clear()
        if what != "removed":
            await cloud.join(await cloud.token("edge1", replace=what == "replaced"), "edge1")
        joins = dict(cloud.registry.joins)
        with pytest.raises(Refused, match="removed or replaced"):
            await cloud.join(
                token, "edge1", thief
            )  # the same key, within the time in which a lost answer is given again
        assert cloud.registry.joins == joins

    scenario(tmp_path, told)


class Interrupted(TenantManager):
    """The real one; a join that has its record stops before its token is used up, once `pause` is set."""

    def __init__(self, store):
        super().__init__(store)
        self.pause = False
        self.waits, self.goes_on = asyncio.Event(), asyncio.Event()

    async def register(self, tenant, node, join, registration=NOTHING):
        found = await super().register(tenant, node, join, registration)
        if self.pause:
            self.pause = False
            self.waits.set()
            await self.goes_on.wait()
        return found


def test_a_machine_that_was_removed_does_not_come_back_by_the_record_of_the_next_one(tmp_path):
    """The next one is joining: there is a record of it, and its token is not used up yet."""

    async def told(cloud):
        edge1, thief, machine = NodeName("edge1"), Machine(), Machine()
        stolen = await cloud.token("edge1")
        await cloud.join(stolen, "edge1", thief)
        assert await cloud.registry.remove_node(DEFAULT_TENANT, edge1)
        cloud.registry.pause = True
        joining = asyncio.create_task(cloud.join(await cloud.token("edge1"), "edge1", machine))
        await cloud.registry.waits.wait()
        try:
            with pytest.raises(Refused, match="removed or replaced"):
                await cloud.join(stolen, "edge1", thief)
            with pytest.raises(Refused, match="not known here any more"):
                await asyncio.to_thread(thief.renew, cloud.client())
        finally:
            cloud.registry.goes_on.set()
        await joining
        assert (await cloud.registry.node(DEFAULT_TENANT, edge1)).join == join_of(machine)

    scenario(tmp_path, told, registry=Interrupted)


def test_a_join_that_broke_off_after_its_record_was_made_begins_again_with_the_same_token(tmp_path):
    async def told(cloud):
        edge1 = NodeName("edge1")
        await cloud.join(await cloud.token("edge1"), "edge1")
        await cloud.registry.remove_node(DEFAULT_TENANT, edge1)
        await cloud.registry.register(DEFAULT_TENANT, edge1, "cut-off")
        machine = Machine()
        await cloud.join(await cloud.token("edge1"), "edge1", machine)  # no --replace: it replaces nobody
        assert (await cloud.registry.node(DEFAULT_TENANT, edge1)).join == join_of(machine)

    scenario(tmp_path, told, registry=TenantManager)


def test_a_node_that_joined_before_joins_had_ids_renews_until_it_is_replaced(tmp_path):
    async def told(cloud):
        old = Machine()
        await cloud.join(await cloud.token("edge1"), "edge1", old)
        key = x509.load_pem_x509_certificate(old.certificate).public_key()
        old.certificate = cloud.authority.issue(key, NodeIdentity(DEFAULT_TENANT, "edge1"), client=True)
        serial = f"{x509.load_pem_x509_certificate(old.certificate).serial_number:x}"
        held = await cloud.tokens.claim(DEFAULT_TENANT, "edge1")
        await cloud.tokens.renewed(DEFAULT_TENANT, "edge1", held, "", serial)
        cloud.registry.joins.clear()  # as an earlier version left it
        await asyncio.to_thread(old.renew, cloud.client())
        assert join_of(old) == ""
        await cloud.join(await cloud.token("edge1", replace=True), "edge1")
        with pytest.raises(Refused, match="replaced by a later one"):
            await asyncio.to_thread(old.renew, cloud.client())

    scenario(tmp_path, told)
