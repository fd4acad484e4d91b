"""Laws of idempotency keys: equal exactly if what identifies the operation is."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from outlay._model.clock import SystemClock
from outlay._model.event_composer import EventComposer, Labels
from outlay._model.keys import netstring
from tests.support.composing import key_and_body

# Few characters, and those that framing is made of, so that equal parts and parts that
# imitate a frame are common; and now and then any text at all.
TRICKY = st.text("01239:,ab\u00e9e\u0301", max_size=6)
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PARTS = st.lists(TRICKY | ANY, max_size=7)


def unframe(data: bytes) -> list[str]:
    """Read a row of netstrings back, strictly by the format's definition."""
    parts = []
    while data:
        digits, colon, rest = data.partition(b":")
        assert colon
        assert digits.isdigit()
        assert str(int(digits)).encode() == digits
        size = int(digits)
        assert rest[size : size + 1] == b","
        parts.append(rest[:size].decode())
        data = rest[size + 1 :]
    return parts


@given(PARTS)
@settings(max_examples=300)
def test_frames_can_be_read_back(parts: list[str]) -> None:
    """What can be taken apart in one way only was made of one list of parts only."""
    assert unframe(b"".join(map(netstring, parts))) == parts


@given(PARTS, PARTS)
@settings(max_examples=300)
@example(["a", "b"], ["ab"])
@example(["1:a,"], ["a"])
@example(["", ""], [""])
@example(["\u00e9"], ["e\u0301"])
def test_framing_is_injective(one: list[str], other: list[str]) -> None:
    """Two different lists of parts never give the same bytes."""
    framed = [b"".join(map(netstring, parts)) for parts in (one, other)]

    assert (framed[0] == framed[1]) == (one == other)


class Identity(NamedTuple):
    """What a key is derived from."""

    source: str
    event_type: str
    customer_id: str
    provider: str | None
    line: str | None
    operation_id: str


VALID = (TRICKY | st.text("01239:,ab", min_size=1, max_size=3)).filter(str.strip)
IDENTITIES = st.builds(
    Identity,
    source=st.sampled_from(["urn:a", "1:a,"]),
    event_type=VALID,
    customer_id=VALID,
    provider=st.none() | VALID,
    line=st.none() | VALID,
    operation_id=VALID,
)

# Shared by all examples: what it remembers of one must not leak into another.
COMPOSERS = {
    source: EventComposer(
        source=source, namespace=None, allow_credits=False, clock=SystemClock()
    )
    for source in ("urn:a", "1:a,")
}


def key_of(identity: Identity, *, region: str | None = None) -> str:
    """Return the key that ``track_cost`` would give."""
    labels = Labels(
        event_type=identity.event_type,
        customer_id=identity.customer_id,
        provider=identity.provider,
        line=identity.line,
        operation=None,
        region=region,
        unit=None,
        provenance="manual",
    )
    key, _ = key_and_body(
        COMPOSERS[identity.source].compose(
            labels, "1", identity.operation_id, None, None, None
        )
    )
    return key


@given(IDENTITIES, IDENTITIES)
@settings(max_examples=300)
@example(
    Identity("urn:a", "t", "c", "ab", None, "x"),
    Identity("urn:a", "t", "c", None, "ab", "x"),
)
@example(
    Identity("urn:a", "t", "c", None, None, "0:,x"),
    Identity("urn:a", "t", "c", None, "0:,", "x"),
)
@example(
    Identity("urn:a", "t", "c", None, None, "x"),
    Identity("urn:a", "t", "c", None, None, "x"),
)
def test_keys_are_equal_exactly_if_the_identities_are(
    one: Identity, other: Identity
) -> None:
    """Unequal keys for one operation count it twice; equal ones for two lose one."""
    assert (key_of(one) == key_of(other)) == (one == other)


@given(IDENTITIES, st.sampled_from(Identity._fields), VALID)
@settings(max_examples=300)
def test_changing_any_part_changes_the_key(
    identity: Identity, field: str, value: str
) -> None:
    """Each part counts; none is forgotten in the hash."""
    if field == "source":
        value = "urn:a" if identity.source != "urn:a" else "1:a,"
    assume(getattr(identity, field) != value)

    assert key_of(identity._replace(**{field: value})) != key_of(identity)


@given(IDENTITIES, st.none() | VALID)
def test_a_key_does_not_depend_on_what_is_remembered(
    identity: Identity, region: str | None
) -> None:
    """A fresh process derives what a long-running one does, by way of any label."""
    fresh = EventComposer(
        source=identity.source, namespace=None, allow_credits=False, clock=SystemClock()
    )
    labels = (
        identity.event_type,
        identity.customer_id,
        identity.provider,
        identity.line,
        None,
        None,
        None,
        "manual",
    )

    key, _ = key_and_body(
        fresh.compose(labels, "1", identity.operation_id, None, None, None)
    )
    assert key == key_of(identity, region=region)
