"""Every store keeps API keys, and changes each in one step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from outlay.server._storage.page import ALL, Page
from tests.support.stores import START, make_key

if TYPE_CHECKING:
    from outlay.server._records import ApiKey
    from outlay.server._storage.store import Store
    from tests.support.stores import StoreLane


def stored(store: Store, key: ApiKey) -> ApiKey | None:
    """Return a key as it is stored now."""
    with store.reading() as reader:
        return reader.key(key.digest)


def test_the_first_key_is_stored_once(lane: StoreLane) -> None:
    """Servers that start together must not each generate a key."""
    store = lane.open()

    assert store.add_first_key(make_key(1))
    assert not store.add_first_key(make_key(2))
    assert not lane.open().add_first_key(make_key(3))
    with lane.open().reading() as reader:
        assert reader.key(make_key(1).digest) == make_key(1)
        assert reader.key(make_key(2).digest) is None


def test_a_key_is_found_by_its_digest_and_its_id(store: Store) -> None:
    """An id of another organization does not exist."""
    key = make_key(1, expires_at=START + 5)
    store.add_key(key)

    with store.reading() as reader:
        assert reader.key(key.digest) == key
        assert reader.key_with_id("org_a", key.id) == key
        assert reader.key_with_id("org_b", key.id) is None
        assert reader.namespaces() == {"org_a"}


def test_keys_are_listed_newest_first(store: Store) -> None:
    """The key that a person just made is on the first page."""
    keys = [
        msgspec.structs.replace(make_key(number), created_at=START + number)
        for number in range(1, 4)
    ]
    for key in [*keys, make_key(9, "org_b")]:
        store.add_key(key)

    with store.reading() as reader:
        assert reader.keys("org_a", Page(2, 0)) == ([keys[2], keys[1]], 3)
        assert reader.keys("org_a", Page(2, 2)) == ([keys[0]], 3)
        assert len(reader.keys("org_b", ALL)[0]) == 1


def test_the_first_revocation_of_a_key_counts(store: Store) -> None:
    """The time of the incident is the time of the first."""
    key, other = make_key(1), make_key(2)
    store.add_key(key)
    store.add_key(other)
    before = store.access_version()

    store.revoke_key(key.id, START + 1)
    store.revoke_key(key.id, START + 2)

    assert store.access_version() != before
    assert stored(store, key) == msgspec.structs.replace(key, revoked_at=START + 1)
    assert stored(store, other) == other


def test_a_token_ends_once(lane: StoreLane) -> None:
    """One server signs a browser in by a link, and all others refuse it."""
    store = lane.open()
    token, old = b"\x01" * 32, b"\x02" * 32
    before = store.access_version()

    assert store.end_token(old, START, START)
    assert store.end_token(token, START + 9, START + 1)
    assert not store.end_token(token, START + 9, START + 2)

    assert store.access_version() != before
    reopened = lane.open()
    assert not reopened.end_token(token, START + 9, START + 3)
    with reopened.reading() as reader:
        assert token in reader.ended_tokens()


def test_a_rotated_key_ends_and_has_a_successor(store: Store) -> None:
    """An earlier end stays, because no person asked for a longer life."""
    lasting, ending = make_key(1), make_key(2, expires_at=START + 1)
    store.add_key(lasting)
    store.add_key(ending)

    store.rotate_key(lasting.id, make_key(3), START + 5)
    store.rotate_key(ending.id, make_key(4), START + 5)

    ended = msgspec.structs.replace(lasting, expires_at=START + 5)
    assert stored(store, lasting) == ended
    assert stored(store, ending) == ending
    assert stored(store, make_key(3)) == make_key(3)
    assert stored(store, make_key(4)) == make_key(4)


def test_the_last_use_of_a_key_is_noted(store: Store) -> None:
    """A key that nothing uses can be revoked."""
    used, unused = make_key(1), make_key(2)
    store.add_key(used)
    store.add_key(unused)

    store.note_key_uses({used.digest}, START + 7)

    assert stored(store, used) == msgspec.structs.replace(used, last_used_at=START + 7)
    assert stored(store, unused) == unused
