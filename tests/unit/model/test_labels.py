"""What names a cost is text that every server, log and spreadsheet can carry."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from outlay._model.event_composer import EventComposer
from outlay._model.events import decode_event
from outlay.errors import InvalidEventError

if TYPE_CHECKING:
    from tests.support.clock import ManualClock

Compose = Callable[..., tuple[str, bytes]]

REQUIRED = ("event_type", "customer_id")
OPTIONAL = ("provider", "operation", "region", "line", "unit")

UNFIT_TEXT = {
    "empty": ("", "must not be blank"),
    "blank": (" \t ", "must not be blank"),
    "too-long": ("x" * 256, "has 256 characters, 255 are allowed"),
    "null": ("a\x00b", "remove the control characters"),
    "line-feed": ("a\nb", "remove the control characters"),
    "delete": ("a\x7fb", "remove the control characters"),
    "c1-control": ("a\x85b", "remove the control characters"),
    "line-separator": ("a\u2028b", "remove the control characters"),
    "lone-surrogate": ("a\ud800b", "is not Unicode text (lone surrogate)"),
    "bytes": (b"a", "pass a str, not bytes"),
    "number": (5, "pass a str, not int"),
    "unhashable": (["a"], "pass a str, not list"),
}

unfit = pytest.mark.parametrize(
    ("value", "remedy"), UNFIT_TEXT.values(), ids=UNFIT_TEXT.keys()
)


@unfit
@pytest.mark.parametrize("field", REQUIRED + OPTIONAL)
def test_unfit_text_is_refused_by_name(
    compose: Compose, field: str, value: object, remedy: str
) -> None:
    """The caller learns at once which argument to correct, and how."""
    with pytest.raises(InvalidEventError) as caught:
        compose(**{field: value})

    assert caught.value.field == field
    assert caught.value.remedy == remedy
    assert str(caught.value) == f"{field}={caught.value.value}: {remedy}"


@pytest.mark.parametrize("field", ["source", "namespace"])
@unfit
def test_unfit_text_in_what_all_events_share_is_refused_at_once(
    make_compose: Callable[..., Compose], field: str, value: object, remedy: str
) -> None:
    """A wrong source fails when the client is made, not at the first cost."""
    with pytest.raises(InvalidEventError, match=f"^{field}=") as caught:
        make_compose(**{field: value})

    assert caught.value.remedy == remedy


@pytest.mark.parametrize("field", REQUIRED)
def test_a_required_label_cannot_be_none(compose: Compose, field: str) -> None:
    """A cost of nothing, or for no customer, cannot be attributed."""
    with pytest.raises(InvalidEventError, match=f"{field}=None: pass a str"):
        compose(**{field: None})


@pytest.mark.parametrize("field", REQUIRED + OPTIONAL)
def test_a_refused_label_is_refused_each_time(compose: Compose, field: str) -> None:
    """Labels are remembered once checked; what failed the check must not be."""
    for _ in range(2):
        with pytest.raises(InvalidEventError, match=field):
            compose(**{field: "a\nb"})


@pytest.mark.parametrize("field", REQUIRED + OPTIONAL)
@pytest.mark.parametrize(
    "value",
    [
        pytest.param("x" * 255, id="longest"),
        pytest.param("\U0001f9fe" * 255, id="longest-in-four-byte-characters"),
        pytest.param('say "hi" \\ {}', id="quotes-and-backslashes"),
        pytest.param("Zoe\u0308 \u8ba2\u5355 \u05dc\u05e7", id="several-scripts"),
        pytest.param("\U0001f469\u200d\U0001f52c", id="joined-emoji"),
        pytest.param("\ue000\U0010fffd", id="private-use"),
    ],
)
def test_any_other_text_arrives_as_it_was_given(
    compose: Compose, field: str, value: str
) -> None:
    """Customers have names in every script; nothing is trimmed or normalised."""
    _, payload = compose(**{field: value})

    event = decode_event(payload)
    carried = {"event_type": event.type, "customer_id": event.subject, **event.data}
    assert carried[field] == value


def test_labels_that_were_not_given_are_absent(compose: Compose) -> None:
    """Absent and null are different to strict servers, so nothing is sent as null."""
    _, payload = compose()

    assert decode_event(payload).data.keys() == {"amount", "operationId", "provenance"}
    assert b"null" not in payload


@pytest.mark.parametrize("provenance", ["estimated", "Manual", "manual "])
def test_an_unknown_provenance_is_refused(compose: Compose, provenance: str) -> None:
    """Who says the amount decides how far it can be trusted: no free text."""
    with pytest.raises(InvalidEventError, match="pass 'reported' or 'priced' or 'man"):
        compose(provenance=provenance)


class Kind(str, enum.Enum):  # noqa: UP042 - unlike StrEnum, this prints as Kind.ONE
    """An enumeration as many applications have one for their event types."""

    ONE = "cost.one"


@pytest.mark.parametrize("first", [Kind.ONE, "cost.one"], ids=["member", "text"])
@pytest.mark.parametrize("field", REQUIRED + OPTIONAL)
def test_an_enumeration_of_str_counts_as_its_text(
    compose: Compose, field: str, first: str
) -> None:
    """Member and text are equal and hash alike: neither may stand in for the other."""
    compose(**{field: first})

    _, of_member = compose(**{field: Kind.ONE})
    _, of_text = compose(**{field: "cost.one"})
    assert of_member == of_text
    assert b"Kind" not in of_member


def test_a_long_value_is_shortened_in_the_error(compose: Compose) -> None:
    """An error ends up in a log line; the value serves to find it, not to keep it."""
    with pytest.raises(InvalidEventError) as caught:
        compose(customer_id="x" * 100_000)

    assert len(str(caught.value)) < 200
    assert "(100002 characters)" in caught.value.value


def test_the_namespace_is_sent_only_if_there_is_one(
    make_compose: Callable[..., Compose],
) -> None:
    """Most credentials write to one organization, and need not name it."""
    _, without = make_compose()()
    _, with_one = make_compose(namespace='org_"1"')()

    assert b"namespace" not in without
    assert decode_event(with_one).namespace == 'org_"1"'


def test_events_of_one_type_begin_alike(compose: Compose) -> None:
    """The shipper compares this beginning to hold back types without a metric."""
    _, one = compose(customer_id="a", amount="1")
    _, other = compose(customer_id="b", amount="2", data={"x": 1})

    beginning = b'{"type":"cost.ai.inference","source":"https://api.myapp.com",'
    assert one.startswith(beginning)
    assert other.startswith(beginning)


@pytest.mark.slow
def test_the_labels_of_many_customers_never_mix(compose: Compose) -> None:
    """More customers than are remembered at once make it slower, not wrong."""
    customers = [f"cus_{number}" for number in range(9000)]
    expected = [compose(customer_id=customer)[1] for customer in customers]

    again = [compose(customer_id=customer)[1] for customer in customers]
    assert again == expected
    assert [decode_event(payload).subject for payload in again] == customers


def test_a_bounded_number_of_labels_is_remembered(clock: ManualClock) -> None:
    """A customer id for each request must not become a leak."""
    composer = EventComposer(
        source="urn:a", namespace=None, allow_credits=False, clock=clock
    )

    for number in range(9000):
        labels = ("cost.a", f"cus_{number}", None, None, None, None, None, "manual")
        composer.compose(labels, "1", "job-42", None, None, None)
    assert len(composer._prefixes) <= 8192
