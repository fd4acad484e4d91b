"""Every attribution survives its way, and no header there may be does any harm."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context

from outlay import attribute
from outlay._model.attribution import UNATTRIBUTED, current_attribution
from outlay.propagation import extract, from_baggage, inject, to_baggage

HEADER: Final = "outlay-attribution"

TEXTS: Final = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=20
).filter(str.strip)
LABELS: Final = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("customer_id", "operation", "region"), TEXTS),
)
SCALARS: Final = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64)
    | TEXTS
    | st.decimals(allow_nan=False, allow_infinity=False, places=8)
)
DIMENSIONS: Final = st.dictionaries(
    TEXTS.map("d.{}".format), SCALARS | st.lists(SCALARS, max_size=3), max_size=2
)


@given(LABELS, DIMENSIONS)
def test_what_is_carried_is_resumed(
    labels: dict[str, str], dimensions: dict[str, Any]
) -> None:
    """Every customer and dimension that can be said at all survives the way."""
    with attribute(**labels, **dimensions):
        said = current_attribution.get()
        headers = inject()

    assert all(value.isascii() and value.isprintable() for value in headers.values())
    with extract(headers):
        assert current_attribution.get() == said


W3C: Final = W3CBaggagePropagator()
STRIPPED: Final = LABELS.map(
    lambda labels: {name: text.strip() for name, text in labels.items()}
)
"""Labels without blanks at their ends, which baggage does not keep."""


@given(STRIPPED, DIMENSIONS)
def test_what_is_put_into_baggage_is_found_in_it(
    labels: dict[str, str], dimensions: dict[str, Any]
) -> None:
    """By way of the header, as the real propagator writes and reads it."""
    carrier: dict[str, str] = {}
    with attribute(**labels, **dimensions), to_baggage():
        said = current_attribution.get()
        W3C.inject(carrier)

    with from_baggage(W3C.extract(carrier, Context())):
        assert current_attribution.get() == said


PIECES: Final = st.sampled_from(
    [
        "1;",
        "2;",
        "customer_id=",
        "data=",
        "cus_1",
        "%7B%22a%22%3A",
        "%5B",
        "%",
        ";",
        "=",
    ]
)


@given(st.lists(PIECES | st.text(max_size=5), max_size=20).map("".join))
def test_no_header_stops_a_job_or_names_what_cannot_be_tracked(value: str) -> None:
    """Whatever is resumed passes the checks of `attribute`."""
    with extract({HEADER: value}):
        said = current_attribution.get()
    with attribute(
        customer_id=said.customer_id,
        operation=said.operation,
        region=said.region,
        **said.dimensions,
    ):
        pass

    assert current_attribution.get() is UNATTRIBUTED
