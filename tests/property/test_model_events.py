"""Laws of events: what was tracked is what the bytes say, digit by digit."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from outlay._model.clock import SystemClock
from outlay._model.event_composer import EventComposer, Labels
from outlay._model.events import decode_event
from tests.support.composing import key_and_body

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCE = 'urn:test:"é"'

# Everything that labels may hold: no controls (Cc), separators of lines and
# paragraphs (Zl, Zp) or surrogates (Cs).
TEXT = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=12
).filter(str.strip)
LABELS = st.builds(
    Labels,
    event_type=TEXT,
    customer_id=TEXT,
    provider=st.none() | TEXT,
    line=st.none() | TEXT,
    operation=st.none() | TEXT,
    region=st.none() | TEXT,
    unit=st.none() | TEXT,
    provenance=st.sampled_from(["reported", "priced", "manual"]),
)
AMOUNTS = st.decimals(0, 10**12, places=12) | st.decimals(0, 1, places=30)
MOMENTS = st.datetimes(timezones=st.just(UTC))

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=6).filter(
    lambda name: name not in {*Labels._fields, "amount", "quantity", "operationId"}
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.decimals(allow_nan=False, allow_infinity=False, places=6)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
    ),
    max_leaves=8,
)
DATA = st.none() | st.dictionaries(NAMES, JSON, max_size=4)

COMPOSER = EventComposer(
    source=SOURCE, namespace='org "1"', allow_credits=False, clock=SystemClock()
)


@given(
    labels=LABELS,
    amount=AMOUNTS,
    operation_id=TEXT,
    timestamp=MOMENTS,
    quantity=st.none() | AMOUNTS,
    data=DATA,
)
@settings(max_examples=300)
def test_what_was_tracked_is_what_is_sent(
    *,
    labels: Labels,
    amount: Decimal,
    operation_id: str,
    timestamp: datetime,
    quantity: Decimal | None,
    data: Mapping[str, Any] | None,
) -> None:
    """Read back, an event has each value that went in, and no other."""
    key, payload = key_and_body(
        COMPOSER.compose(labels, amount, operation_id, timestamp, quantity, data)
    )

    event = decode_event(payload)
    assert event.type == labels.event_type
    assert event.source == SOURCE
    assert event.subject == labels.customer_id
    assert event.namespace == 'org "1"'
    assert event.idempotency_key == key
    sent_at = datetime.fromisoformat(event.timestamp)
    assert timedelta() <= timestamp - sent_at < timedelta(milliseconds=1)
    given = labels._asdict() | {"quantity": quantity}
    own = {name: value for name, value in given.items() if value is not None}
    del own["event_type"], own["customer_id"]
    own |= {"amount": amount, "operationId": operation_id}
    assert event.data == own | dict(data or {})
    assert str(Decimal(event.data["amount"])) == str(amount)


@given(LABELS, AMOUNTS, TEXT, DATA)
def test_an_event_is_the_encoders_own_json(
    labels: Labels, amount: Decimal, operation_id: str, data: Mapping[str, Any] | None
) -> None:
    """The bytes are put together by hand, and must be what an encoder would write."""
    _, payload = key_and_body(
        COMPOSER.compose(labels, amount, operation_id, None, None, data)
    )

    encoder = msgspec.json.Encoder(decimal_format="number")
    assert encoder.encode(decode_event(payload)) == payload


@given(LABELS, AMOUNTS, TEXT, DATA)
def test_other_parsers_read_the_same_event(
    labels: Labels, amount: Decimal, operation_id: str, data: Mapping[str, Any] | None
) -> None:
    """No name comes twice, which parsers resolve differently, and none is lost."""
    _, payload = key_and_body(
        COMPOSER.compose(labels, amount, operation_id, None, None, data)
    )

    names: list[str] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names.extend(name for name, _ in pairs)
        assert len({name for name, _ in pairs}) == len(pairs)
        return dict(pairs)

    event = json.loads(payload, object_pairs_hook=collect, parse_float=Decimal)
    assert {"type", "source", "subject", "timestamp", "idempotencyKey"} <= {*names}
    assert event["data"] == decode_event(payload).data


@given(st.from_regex(r"(0|[1-9][0-9]{0,24})(\.[0-9]{1,40})?", fullmatch=True))
def test_plain_text_is_the_same_amount_as_its_decimal(amount: str) -> None:
    """Plain numbers take a short cut, which must lead to the same place."""
    labels = ("cost.a", "cus_1", None, None, None, None, None, "manual")

    _, by_text = key_and_body(COMPOSER.compose(labels, amount, "1", None, None, None))
    _, by_decimal = key_and_body(
        COMPOSER.compose(labels, Decimal(amount), "1", None, None, None)
    )
    sent = [decode_event(payload).data["amount"] for payload in (by_text, by_decimal)]
    assert f'"amount":{amount},'.encode() in by_text
    assert Decimal(sent[0]) == Decimal(sent[1]) == Decimal(amount)
