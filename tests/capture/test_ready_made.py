"""Ready-made extractors, and answers that come by another way."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

import outlay
from outlay import ConfigError, extractors
from outlay._model.error_counts import capture_errors
from outlay.extractors import Observation
from tests.support.observing import observing
from tests.support.recorded import Recorded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outlay._capture.extraction.templates import ResponseExtractor

TYPE: Final = "cost.enrichment"
DIGITS: Final = "0.05123456789012345678901234567"
SECRET: Final = "Ada Lovelace"
READY: Final[Mapping[str, ResponseExtractor]] = {
    "price-header": extractors.price_from_header("X-Price", event_type=TYPE),
    "price": extractors.price_from_body("bill.price", currency="EUR", event_type=TYPE),
    "currency": extractors.price_from_body(
        "price", currency_path="price_unit", event_type=TYPE, operation_id="sid"
    ),
    "units": extractors.units_from_body(
        "bill.pages", "page", event_type=TYPE, model="pro"
    ),
    "units-header": extractors.units_from_header(
        "x-credits", "credit", event_type=TYPE
    ),
    "flat": extractors.flat_rate(event_type=TYPE),
    "found": extractors.flat_rate("match", event_type=TYPE, charged_if="person"),
}
for _name, _ready in READY.items():
    outlay.extractors.extractor("ready", f"POST /{_name}", host="ready.test")(_ready)


def observed(
    path: str, body: str = "{}", headers: Mapping[str, str] | None = None
) -> list[Observation]:
    """Return what is observed of a call that is answered so."""
    response = httpx.Response(
        200,
        content=body.encode(),
        headers={"x-request-id": "req_1", **(headers or {})},
    )
    transport = httpx.MockTransport(lambda _: response)
    with httpx.Client(transport=transport) as client, observing(client) as seen:
        client.post(f"https://ready.test/v1/{path}")
    return seen


def seen(**fields: Any) -> list[Observation]:
    """Return one observation, as it is in any of these tests."""
    common: dict[str, Any] = {
        "provider": "ready",
        "event_type": TYPE,
        "request_id": "req_1",
    }
    return [Observation(**common, **fields)]


@pytest.mark.parametrize("told", [DIGITS, "1e-20", "0"])
def test_a_price_in_a_header_is_taken_to_its_last_digit(told: str) -> None:
    """Whatever the case of the name."""
    assert observed("price-header", headers={"x-PRICE": told}) == seen(
        amount=Decimal(told)
    )


@pytest.mark.parametrize("told", ["free", "", "-1", "NaN", "Infinity", "$1"])
def test_what_is_no_price_is_neither_zero_nor_a_guess(told: str) -> None:
    """It is an unpriced cost, which a person will see."""
    assert observed("price-header", headers={"x-price": told}) == seen()


@pytest.mark.parametrize("written", [DIGITS, f'"{DIGITS}"'], ids=["number", "text"])
def test_a_price_in_the_answer_is_taken_to_its_last_digit(written: str) -> None:
    """Straight from the text: a float would have lost the half of it."""
    body = f'{{"bill": {{"price": {written}}}, "who": "{SECRET}"}}'

    assert observed("price", body) == seen(amount=Decimal(DIGITS), currency="EUR")


@pytest.mark.parametrize("body", ["{}", '{"bill": null}', '{"bill": {"price": true}}'])
def test_an_answer_without_its_price_is_an_unpriced_cost(body: str) -> None:
    """Not free: no source says so."""
    assert observed("price", body) == seen(currency="EUR")


def test_an_answer_may_tell_its_currency_and_its_id() -> None:
    """In capitals, as event types expect it."""
    body = json.dumps({"price": "0.0075", "price_unit": "gbp", "sid": 17})

    assert observed("currency", body) == seen(
        amount=Decimal("0.0075"), currency="GBP", operation_id="17"
    )


def test_counts_are_for_the_price_book() -> None:
    """Of the answer, or of a header."""
    pages = observed("units", '{"bill": {"pages": 3}}')
    used = observed("units-header", headers={"x-credits": "1.50"})

    assert pages == seen(usage={"page": 3}, model="pro")
    assert used == seen(usage={"credit": Decimal("1.50")})


def test_a_count_that_is_missing_is_not_known() -> None:
    """It must not be priced as nothing by a book that has a price for it."""
    assert observed("units") == seen(is_complete=False, model="pro")


def test_a_flat_price_is_for_each_call() -> None:
    """The body is not even looked at: it need not be JSON."""
    assert observed("flat", "binary") == seen(usage={"call": 1})


@pytest.mark.parametrize(
    ("person", "is_found"),
    [("{}", 0), ("null", 0), ("[]", 0), ("false", 0), ('{"name": "Ada"}', 1)],
)
def test_a_call_that_found_nothing_is_free(person: str, is_found: int) -> None:
    """Where its provider says so."""
    found = observed("found", f'{{"person": {person}}}')

    assert found == seen(usage={"match": 1}) * is_found
    assert observed("found") == []


def test_only_what_is_named_is_read() -> None:
    """What is not read cannot leak."""
    assert {name: ready.fields for name, ready in READY.items()} == {
        "price-header": (),
        "price": ("bill.price",),
        "currency": ("price", "price_unit", "sid"),
        "units": ("bill.pages",),
        "units-header": (),
        "flat": (),
        "found": ("person",),
    }


@pytest.mark.parametrize("facts", [{}, {"event_type": ""}, {"event": TYPE}])
def test_what_an_extractor_cannot_be_told_is_said(facts: Any) -> None:
    """With what it can."""
    with pytest.raises(ConfigError, match="event_type"):
        extractors.flat_rate(**facts)


@pytest.mark.parametrize(
    "answer",
    [
        {"price": 0.0075, "price_unit": "USD", "sid": "m1", "to": SECRET},
        '{"price": 0.0075, "sid": "m1"}',
        b'{"price": "0.0075", "sid": "m1"}',
    ],
    ids=["mapping", "text", "bytes"],
)
def test_an_answer_that_came_another_way_is_tracked(answer: object) -> None:
    """One line in a web hook, or around a library that outlay does not know."""
    with Recorded() as tracked:
        for _ in range(2):
            outlay.observe(
                answer,
                provider="ready",
                endpoint="post /v1/currency",
                client=tracked.client,
            )

    event = tracked.only()
    assert (event.subject, event.type) == ("cus_1", TYPE)
    assert event.data["amount"] == Decimal("0.0075")
    assert event.data["provenance"] == "reported"
    assert event.data["operationId"] == "m1"
    assert SECRET not in tracked.text()


def test_headers_are_handed_over_in_whatever_case_they_came() -> None:
    """HTTP does not mind, and neither do we."""
    with Recorded() as tracked:
        outlay.observe(
            {},
            provider="ready",
            endpoint="POST /price-header",
            headers={"X-Price": "0.05"},
            client=tracked.client,
        )

    assert tracked.only().data["amount"] == Decimal("0.05")


@pytest.mark.parametrize(
    ("answer", "endpoint", "says"),
    [
        ({}, "POST /v1/nothing", "POST /v1/nothing"),
        ({}, None, "a web hook"),
        ("[1]", "POST /currency", "not a JSON object"),
        (b"\xff", "POST /currency", "not a JSON object"),
    ],
)
def test_an_answer_that_nobody_reads_is_said(
    answer: object, endpoint: str | None, says: str
) -> None:
    """It is a mistake of the caller, who is there to be told."""
    with pytest.raises(ConfigError, match=says):
        outlay.observe(answer, provider="ready", endpoint=endpoint)


def test_a_flaw_of_an_extractor_is_not_the_callers() -> None:
    """A web hook must answer its provider whatever happens here."""

    @outlay.extractors.extractor("ready", "POST /flawed")
    def flawed(_answer: object, _call: outlay.extractors.Call) -> None:
        raise ZeroDivisionError

    before = capture_errors.snapshot().get("ready: ZeroDivisionError", 0)
    outlay.observe({}, provider="ready", endpoint="POST /flawed")

    assert capture_errors.snapshot()["ready: ZeroDivisionError"] == before + 1
