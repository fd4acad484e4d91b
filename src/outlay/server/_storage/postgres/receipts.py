"""Decide which event of a key came first, for all servers of a ledger.

The keys of the dedupe window are in a ring of tables. Each holds a quarter of the
window. When the ring turns, the next table is emptied at once, which costs the same
for any number of keys.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final
from uuid import UUID

from outlay.server._records import Event
from outlay.server._storage.postgres.schema import RING
from outlay.server._storage.sql.events import EVENT_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from outlay.server._storage.postgres.connecting import PostgresConnection

MICROSECONDS_PER_DAY: Final = 86_400_000_000

_CLAIM: Final = """
    INSERT INTO receipts AS r (epoch, key_hash, received_at, seq)
    SELECT :epoch, key_hash, :now, :base + place
    FROM unnest(:hashes::uuid[]) WITH ORDINALITY AS incoming (key_hash, place)
    WHERE NOT EXISTS (
        SELECT FROM receipts known WHERE known.key_hash = incoming.key_hash
        AND known.epoch <> :epoch AND known.received_at > :cutoff
    )
    ORDER BY key_hash
    ON CONFLICT (key_hash, epoch) DO UPDATE
    SET received_at = excluded.received_at, seq = excluded.seq
    WHERE r.received_at <= :cutoff
    RETURNING seq
"""
_NOTE: Final = """
    INSERT INTO receipts AS r (epoch, key_hash, received_at, seq)
    SELECT :epoch, *
    FROM unnest((:hashes)::uuid[], (:times)::bigint[], (:seqs)::bigint[])
    ON CONFLICT (key_hash, epoch) DO UPDATE
    SET received_at = excluded.received_at, seq = excluded.seq
"""
_EVENT: Final = ", ".join(f"e.{name}" for name in EVENT_COLUMNS.split(", "))
_FIRST: Final = f"""
    SELECT r.key_hash, {_EVENT}
    FROM unnest(:hashes::uuid[]) AS wanted (key_hash)
    JOIN receipts r USING (key_hash)
    JOIN events e ON e.day = r.received_at / {MICROSECONDS_PER_DAY} AND e.seq = r.seq
    WHERE r.received_at > :cutoff
"""


def key_hash(namespace: str, key: str) -> str:
    """Return the hash under which a key is kept, as 32 hexadecimal digits."""
    return blake2b(f"{namespace}\0{key}".encode(), digest_size=16).hexdigest()


def claim(
    connection: PostgresConnection,
    hashes: Sequence[str],
    base: int,
    *,
    epoch: int,
    cutoff: int,
    now: int,
) -> set[int]:
    """Note the receipt of keys, and return the orders of receipt of those that are new.

    A key that another server is storing is waited for. In the order of the hashes, so
    that no two servers wait for each other.

    Args:
        connection: The connection, in a transaction that holds the lock of appends.
        hashes: The hashes of different keys, in order of receipt.
        base: The order of receipt of the event before the first one.
        epoch: The current table.
        cutoff: The last time of receipt whose key is free again.
        now: The time of receipt, in microseconds since 1970.
    """
    rows = connection.execute(
        _CLAIM,
        {
            "hashes": _array(hashes),
            "base": base,
            "epoch": epoch,
            "cutoff": cutoff,
            "now": now,
        },
    )
    return {seq for (seq,) in rows.fetchall()}


def note(
    connection: PostgresConnection,
    received: Mapping[str, tuple[int, int]],
    *,
    epoch: int,
) -> None:
    """Note the receipt of keys that another store received.

    Args:
        connection: The connection, in a transaction that holds the lock of appends.
        received: The time and the order of receipt of the last event, by the hash.
        epoch: The current table.
    """
    if received:
        times, seqs = zip(*received.values(), strict=True)
        connection.execute(
            _NOTE,
            {
                "epoch": epoch,
                "hashes": _array([*received]),
                "times": [*times],
                "seqs": [*seqs],
            },
        )


def first_events(
    connection: PostgresConnection, hashes: Sequence[str], cutoff: int
) -> Mapping[str, Event]:
    """Return the first events of keys, by the hash."""
    if not hashes:
        return {}
    rows = connection.execute(_FIRST, {"hashes": _array(hashes), "cutoff": cutoff})
    return {found.hex: Event(*row) for found, *row in rows if isinstance(found, UUID)}


def turn(connection: PostgresConnection, window: int, now: int) -> bool:
    """Turn the ring if its time has come. Return whether it did.

    The caller holds the lock of appends for itself. The emptied table has keys that
    were received more than a window ago: five quarters at least.

    Args:
        connection: The connection, in a transaction.
        window: The dedupe window, in microseconds.
        now: The time, in microseconds since 1970.
    """
    row = connection.execute(
        "UPDATE outlay_state SET epoch = (epoch + 1) % ?, epoch_since = ?"
        " WHERE epoch_since <= ? RETURNING epoch",
        (RING, now, now - window // 4),
    ).fetchone()
    if row is None:
        return False
    connection.execute(f"TRUNCATE receipts_{row[0]:d}")
    return True


def _array(hashes: Sequence[str]) -> str:
    return "{" + ",".join(hashes) + "}"
