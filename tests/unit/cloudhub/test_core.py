"""What a change of a node's session key means for the channel that wrote it."""

from __future__ import annotations

import json

from kubeedge.api.names import Revision
from kubeedge.hub.core import CLOSE_REPLACED
from kubeedge.store.model import ChangeKind
from kubeedge_cloud.cloudhub.core import KeyChange, SessionKey


def change(revision: int, kind: ChangeKind = ChangeKind.PUT) -> KeyChange:
    return KeyChange(kind is ChangeKind.PUT, Revision(revision))


def session() -> SessionKey:
    return SessionKey("s1", "192.0.2.7", 12.5)


def test_its_value_names_the_session() -> None:
    assert json.loads(session().encode()) == {"session": "s1", "address": "192.0.2.7", "since": 12.5}
    assert session().encode() == session().encode()


def test_our_own_write_and_older_ones_end_nothing() -> None:
    key = session()
    assert key.written(Revision(7)) is None
    assert key.changed(change(7)) is None and key.changed(change(6, ChangeKind.DELETE)) is None


def test_a_later_write_replaces_the_session_and_a_later_delete_ends_it() -> None:
    key = session()
    key.written(Revision(7))
    replaced, ended = key.changed(change(8)), key.changed(change(9, ChangeKind.DELETE))
    assert replaced is not None and replaced.code == CLOSE_REPLACED
    assert ended is not None and ended.code == 1008 and "removed" in ended.reason


def test_what_was_heard_before_our_own_revision_was_known_counts_once_it_is() -> None:
    key = session()
    assert key.changed(change(8)) is None
    replaced = key.written(Revision(7))
    assert replaced is not None and replaced.code == CLOSE_REPLACED
    late = session()
    assert late.changed(change(6)) is None and late.written(Revision(7)) is None
