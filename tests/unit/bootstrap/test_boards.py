"""Boards that join with a join key: their serial number is approved, before or after they ask, and the key that asked first is theirs."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from kubeedge.api import keys
from kubeedge.api.names import DEFAULT_TENANT, TenantId
from kubeedge.errors import Conflict, Invalid, NotFound, Refused, Unavailable
from kubeedge.pki import csr, tokens
from kubeedge_cloud.bootstrap import board_record, boards
from kubeedge_cloud.bootstrap import tokens as bootstrap_tokens
from kubeedge_cloud.bootstrap.board_events import BoardEvents
from kubeedge_cloud.bootstrap.board_record import BoardRecord
from kubeedge_cloud.bootstrap.boards import default_name
from tests.unit.bootstrap.cloud import Cloud, Machine
from tests.unit.bootstrap.test_join import scenario

SERIAL = "10000000abcdef01"


async def ask(cloud: Cloud, key: tokens.Token, machine: Machine, serial: str = SERIAL):
    def asked():
        client = cloud.client()
        ca = client.fetch_ca(key)
        return client.board(key, serial, csr.request_pem(machine.key, "board"), ca)

    return await asyncio.to_thread(asked)


async def join_key(cloud: Cloud, ttl: float = 3600.0, tenant: TenantId = DEFAULT_TENANT) -> tokens.Token:
    return await cloud.tokens.create(tenant, "", ttl, join_key=True)


def test_a_board_waits_and_joins_once_it_is_approved(tmp_path):
    async def told(cloud):
        key, machine = await join_key(cloud), Machine()
        shown = await ask(cloud, key, machine)
        [board] = await cloud.tokens.boards.list(DEFAULT_TENANT)
        assert (board.state, board.serial, board.key, board.address) == ("waiting", SERIAL, shown, "127.0.0.1")
        assert await ask(cloud, key, machine) == shown, "it may ask as often as it likes"
        await cloud.tokens.boards.approve(DEFAULT_TENANT, SERIAL, "pump7")
        token, name = await ask(cloud, key, machine)
        answer = await cloud.join(token, name, machine)
        assert (name, answer["node"]) == ("pump7", "pump7")

    scenario(tmp_path, told)


def test_a_list_of_boards_is_approved_before_they_ask(tmp_path):
    async def told(cloud):
        record = await cloud.tokens.boards.approve(DEFAULT_TENANT, SERIAL)
        assert (record.state, record.node) == ("expected", "card-10000000abcdef01")
        assert await cloud.tokens.boards.approve(DEFAULT_TENANT, SERIAL, record.node) == record
        token, name = await ask(cloud, await join_key(cloud), Machine())
        assert name == record.node and (await cloud.join(token, name))["node"] == name

    scenario(tmp_path, told)


def test_an_answer_that_was_lost_may_be_asked_for_again_and_nobody_else_gets_it(tmp_path):
    async def told(cloud):
        key, machine = await join_key(cloud), Machine()
        await cloud.tokens.boards.approve(DEFAULT_TENANT, SERIAL)
        lost, name = await ask(cloud, key, machine)
        token, _ = await ask(cloud, key, machine)
        with pytest.raises(Refused, match="not known"):
            await cloud.join(lost, name, machine)
        await cloud.join(token, name, machine)  # whose answer was lost too
        again, _ = await ask(cloud, key, machine)
        assert (await cloud.join(again, name, machine))["node"] == name
        await cloud.tokens.boards.forget(DEFAULT_TENANT, SERIAL)
        assert isinstance(await ask(cloud, key, Machine()), str)
        with pytest.raises(NotFound):
            await cloud.tokens.boards.forget(DEFAULT_TENANT, "unknown")

    scenario(tmp_path, told)


def test_of_two_that_ask_with_one_serial_number_neither_joins_before_somebody_decides(tmp_path):
    async def told(cloud):
        key, thief, board = await join_key(cloud), Machine(), Machine()
        shown = await ask(cloud, key, thief)
        for machine in (board, thief, board):
            with pytest.raises(Refused, match="neither joins before an administrator"):
                await ask(cloud, key, machine)
        with pytest.raises(Refused, match="another key"):
            await ask(cloud, key, Machine())
        [record] = cloud.contested
        assert (record.state, record.key) == ("contested", shown) and record.rival not in ("", shown)
        assert [record] == await cloud.tokens.boards.list(DEFAULT_TENANT), "who asks again, or third, writes nothing"
        store = cloud.tokens.boards
        for wrong, error in (("", Conflict), (shown[:7], Invalid), ("0" * 16, NotFound)):
            with pytest.raises(error):
                await store.approve(DEFAULT_TENANT, SERIAL, "pump7", key=wrong)
        await store.approve(DEFAULT_TENANT, SERIAL, "pump7", key=record.rival[:16].upper())
        with pytest.raises(Refused, match="another key"):
            await ask(cloud, key, thief)
        token, name = await ask(cloud, key, board)
        assert (await cloud.join(token, name, board))["node"] == "pump7" and cloud.contested == [record]

    scenario(tmp_path, told)


def test_who_joins_first_with_the_serial_number_of_another_is_told_of_and_replaced(tmp_path):
    async def told(cloud):
        key, thief, board = await join_key(cloud), Machine(), Machine()
        store = cloud.tokens.boards
        await store.approve(DEFAULT_TENANT, SERIAL, "pump7")
        token, name = await ask(cloud, key, thief)
        await cloud.join(token, name, thief)
        with pytest.raises(Refused, match="neither joins"):
            await ask(cloud, key, board)
        [record] = cloud.contested
        await store.approve(DEFAULT_TENANT, SERIAL, key=record.rival[:16])
        token, name = await ask(cloud, key, board)
        await cloud.join(token, name, board)
        claim = (await cloud.tokens.claim(DEFAULT_TENANT, name)).claim
        assert claim is not None and claim.token == token.id, "the other one's certificate stands for nobody"

    scenario(tmp_path, told)


def test_a_token_that_was_given_and_not_used_ends_when_another_asks(tmp_path):
    async def told(cloud):
        key, thief = await join_key(cloud), Machine()
        await cloud.tokens.boards.approve(DEFAULT_TENANT, SERIAL)
        token, name = await ask(cloud, key, thief)
        with pytest.raises(Refused, match="neither joins"):
            await ask(cloud, key, Machine())
        with pytest.raises(Refused, match="not known"):
            await cloud.join(token, name, thief)

    scenario(tmp_path, told)


def test_what_is_approved_in_advance_may_be_for_one_network(tmp_path):
    async def told(cloud):
        key, machine, store = await join_key(cloud), Machine(), cloud.tokens.boards
        await store.approve(DEFAULT_TENANT, SERIAL, network="192.0.2.7/24")
        with pytest.raises(Refused, match=r"approved for 192\.0\.2\.0/24, and this request comes from 127\.0\.0\.1"):
            await ask(cloud, key, machine)
        [record] = await store.list(DEFAULT_TENANT)
        assert record.state == "expected", "the number is still free for the board"
        await store.approve(DEFAULT_TENANT, SERIAL, network="127.0.0.0/8")
        assert (await ask(cloud, key, machine))[1] == record.node
        await store.forget(DEFAULT_TENANT, SERIAL)
        await ask(cloud, key, machine)
        for network, error in (("192.0.2.0/24", Conflict), ("nowhere", Invalid), ("10.0.0.0/99", Invalid)):
            with pytest.raises(error):
                await store.approve(DEFAULT_TENANT, SERIAL, network=network)

    scenario(tmp_path, told)


def test_records_of_a_board_are_those_of_older_cloud_processes_where_nothing_newer_is_in_them():
    fields = {"serial", "node", "key", "address", "asked", "approved", "token", "joined"}
    assert set(json.loads(BoardRecord("s", "n").encode())) == fields
    whole = BoardRecord("s", rival="k", rival_address="a", rival_asked=1.0, network="10.0.0.0/8")
    assert board_record.decode(whole.encode()) == whole
    assert b'"node":"",' in whole.encode(), "by which records without a name are found"


def test_many_boards_are_forgotten_at_once(tmp_path):
    async def told(cloud):
        store = cloud.tokens.boards
        for n in range(250):
            await store.approve(DEFAULT_TENANT, f"old-{n:04}")
        await store.approve(DEFAULT_TENANT, "new-0001")
        await store.ask(DEFAULT_TENANT, "new-0002", "key", "192.0.2.1")
        assert await store.forget_all(DEFAULT_TENANT, state="waiting") == ["new-0002"]
        assert len(await store.forget_all(DEFAULT_TENANT, "old-")) == 250
        assert await store.forget_all(DEFAULT_TENANT) == ["new-0001"] and await store.list(DEFAULT_TENANT) == []

    scenario(tmp_path, told)


def test_an_event_says_that_two_machines_ask():
    class Api:
        def __init__(self):
            self.made = []

        async def create(self, resource, namespace, obj):
            self.made.append(obj)
            return obj

    async def run():
        api = Api()

        async def of(tenant):
            if tenant == "away":
                raise Unavailable("no API")
            return api

        events = BoardEvents(of, lambda: 0.0)
        board = BoardRecord("52:54:00:12:34:56", key="a" * 64, rival="b" * 64, rival_address="192.0.2.1")
        await events.contested(DEFAULT_TENANT, board)
        await events.contested(TenantId("away"), board)  # nobody's request fails for it
        [event] = api.made
        assert event["reason"] == "BoardContested" and event["involvedObject"]["name"] == "card-52-54-00-12-34-56"
        assert "a" * 16 in event["message"] and "b" * 16 in event["message"] and len(event["message"]) < 1024

    asyncio.run(run())


def test_a_board_that_has_joined_may_lose_any_number_of_answers(tmp_path):
    async def told(cloud):
        key, machine = await join_key(cloud), Machine()
        await cloud.tokens.boards.approve(DEFAULT_TENANT, SERIAL)
        for _ in range(2):
            token, name = await ask(cloud, key, machine)
            await cloud.join(token, name, machine)  # whose answer was lost, or power before it was written
            for _ in range(3):
                token, name = await ask(cloud, key, machine)
            assert (await cloud.join(token, name, machine))["node"] == name
        # another machine of that name has a token of an administrator: the board does not take the name back
        await cloud.join(await cloud.token(name, replace=True), name)
        for _ in range(2):
            token, name = await ask(cloud, key, machine)
            with pytest.raises(Conflict, match="exists"):
                await cloud.join(token, name, machine)

    scenario(tmp_path, told)


def test_a_board_that_asks_without_end_does_not_use_up_the_tokens_of_its_tenant(tmp_path):
    async def told(cloud):
        key, machine = await join_key(cloud), Machine()
        await cloud.tokens.boards.approve(DEFAULT_TENANT, SERIAL)
        for _ in range(10):
            token, name = await ask(cloud, key, machine)
        assert {record.id for record in await cloud.tokens.list(DEFAULT_TENANT)} == {key.id, token.id}
        await cloud.join(token, name, machine)
        for _ in range(10):
            again, name = await ask(cloud, key, machine)
        left = {record.id for record in await cloud.tokens.list(DEFAULT_TENANT)}
        assert left == {key.id, token.id, again.id}, "one that was used stays visible"

    scenario(tmp_path, told)


def test_a_join_key_is_no_token_and_a_token_no_join_key(tmp_path):
    async def told(cloud):
        key = await join_key(cloud)
        with pytest.raises(Refused, match="join key"):
            await cloud.join(key, "edge1")
        with pytest.raises(Refused, match="not a join key"):
            await ask(cloud, await cloud.token(), Machine())
        await cloud.tokens.revoke(DEFAULT_TENANT, key.id)
        with pytest.raises(Refused, match="revoked"):
            await ask(cloud, key, Machine())
        short = await join_key(cloud, 60.0)
        cloud.off = 61.0
        with pytest.raises(Refused, match="expired"):
            await ask(cloud, short, Machine())
        cloud.off = 0.0
        # what an older cloud process reads has no field that it does not know
        kv = await cloud.store.get(keys.tokens(DEFAULT_TENANT) + (await cloud.token("a")).id)
        assert "join_key" not in json.loads(kv.value)

    scenario(tmp_path, told)


def test_names_and_serial_numbers(tmp_path):
    async def told(cloud):
        store = cloud.tokens.boards
        for serial in ("", "abc", "a/b/c", "../../x", "x" * 65, "a b c d", "\u00e9abc"):
            with pytest.raises(Invalid):
                await store.approve(DEFAULT_TENANT, serial)
        with pytest.raises(Invalid):
            await store.approve(DEFAULT_TENANT, SERIAL, "No_Name")
        await store.approve(DEFAULT_TENANT, SERIAL, "pump7")
        with pytest.raises(Conflict, match="is node pump7 already"):
            await store.approve(DEFAULT_TENANT, "other", "pump7")
        with pytest.raises(Conflict, match="forget it first"):
            await store.approve(DEFAULT_TENANT, SERIAL, "pump8")
        assert await store.list(TenantId("acme")) == []

    scenario(tmp_path, told)
    assert default_name("52:54:00:12:34:56") == "card-52-54-00-12-34-56"
    assert default_name("-" * 9 + "A") == "card-a"


def test_how_many_wait_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(boards, "MAX_WAITING", 3)
    monkeypatch.setattr(boards, "MAX_BOARDS", 2)

    async def told(cloud):
        store = cloud.tokens.boards
        for n in range(3):
            await store.ask(DEFAULT_TENANT, f"serial{n}", "key", "192.0.2.1")
        with pytest.raises(Conflict, match="wait for approval"):
            await store.ask(DEFAULT_TENANT, "serial3", "key", "192.0.2.1")
        await store.approve(DEFAULT_TENANT, "serial0")
        await store.ask(DEFAULT_TENANT, "serial3", "key", "192.0.2.1")
        cloud.off = 8 * 86400.0
        await store.ask(DEFAULT_TENANT, "serial4", "key", "192.0.2.1")
        assert [board.serial for board in await store.list(DEFAULT_TENANT)] == ["serial0", "serial4"]
        await store.approve(DEFAULT_TENANT, "serial4")
        with pytest.raises(Conflict, match="forget those"):
            await store.approve(DEFAULT_TENANT, "serial5")

    scenario(tmp_path, told)


def test_whoever_asks_at_any_rate_makes_the_cloud_look_at_all_boards_now_and_then(tmp_path, monkeypatch):
    """A join key is on each of a thousand cards, and one look at ten thousand boards keeps everybody else waiting."""
    monkeypatch.setattr(boards, "MAX_WAITING", 3)

    async def told(cloud):
        store, looks = cloud.tokens.boards, []
        look = store._all

        async def counted(tenant):
            looks.append(tenant)
            return await look(tenant)

        monkeypatch.setattr(store, "_all", counted)
        for n in range(50):
            with contextlib.suppress(Conflict):
                await store.ask(DEFAULT_TENANT, f"serial{n}", "key", "192.0.2.1")
        assert len(looks) == 4, "three that have room, and the first that has none"
        await store.forget(DEFAULT_TENANT, "serial0")
        await store.ask(DEFAULT_TENANT, "serial50", "key", "192.0.2.1")
        with pytest.raises(Conflict):
            await store.ask(DEFAULT_TENANT, "serial51", "key", "192.0.2.1")
        cloud.off = -86400.0  # a clock that is set back refuses nobody for a day
        looks.clear()
        with pytest.raises(Conflict):
            await store.ask(DEFAULT_TENANT, "serial51", "key", "192.0.2.1")
        assert looks

    scenario(tmp_path, told)


def test_a_board_that_is_approved_gets_so_many_tokens_a_minute(tmp_path, monkeypatch):
    monkeypatch.setattr(bootstrap_tokens, "_TIDY_FROM", 1)

    async def told(cloud):
        key, machine = await join_key(cloud), Machine()
        for serial in (SERIAL, "other"):
            await cloud.tokens.boards.approve(DEFAULT_TENANT, serial)
        looks, look = [], cloud.tokens.list

        async def counted(tenant):
            looks.append(tenant)
            return await look(tenant)

        monkeypatch.setattr(cloud.tokens, "list", counted)
        for _ in range(30):
            token, name = await ask(cloud, key, machine)
        with pytest.raises(Unavailable, match="too many tokens") as refused:
            await ask(cloud, key, machine)
        assert 0 < refused.value.retry_after <= 60
        assert len(looks) == 1, "the other tokens of the tenant were looked at once"
        assert isinstance(await ask(cloud, key, Machine(), "other"), tuple), "others are not affected"
        assert (await cloud.join(token, name, machine))["node"] == name

    scenario(tmp_path, told)


def test_what_is_shown_of_boards():
    [shown] = boards.as_json([BoardRecord("s", "n", "k")])
    assert (shown["serial"], shown["state"], shown["node"]) == ("s", "approved", "n")
