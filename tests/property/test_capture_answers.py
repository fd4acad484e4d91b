"""Captured answers of any shape: the call is unharmed, and no amount is made up.

Every registered endpoint is called through an instrumented HTTP client, as an
application would. What it answers is arbitrary JSON, or a recorded answer with
something changed in it.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import outlay
from outlay._capture import providers
from outlay._capture.extraction import registry
from outlay._capture.providers import libraries
from outlay._model.error_counts import capture_errors
from outlay.testing import RecordingClient
from tests.support.responses import Recorded, recorded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay import CostEvent

tuple(libraries())  # registers the endpoints

EXAMPLES: Final = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

REQUEST_IDS: Final = (
    "apim-request-id",
    "mistral-correlation-id",
    "request-id",
    "x-amzn-requestid",
    "x-request-id",
)

_numbers: Final = itertools.count()

DEAREST: Final = Decimal(1_000_000)
"""USD. What no single call costs, whatever its answer says."""


class Called(NamedTuple):
    """An endpoint as it is called."""

    provider: str
    method: str
    path: str


def called(route: registry._Route, provider: str) -> Called:
    """Return a call that a registered pattern matches."""
    path = route.path.pattern.removesuffix("/?$").replace("[^/]+", "some-name")
    method = route.method if route.method.isalpha() else "POST"
    return Called(provider, method, re.sub(r"\\(.)", r"\1", path))


ENDPOINTS: Final = sorted(
    called(route, provider)
    for provider, routes in registry._routes.items()
    for route in routes
    # Not those of other tests, which may charge what they like.
    if getattr(route.endpoint.extract, "__module__", "").startswith(providers.__name__)
)
STREAMED: Final = [
    each
    for each in ENDPOINTS
    if (found := registry.find_endpoint(*each)) is not None
    and found.merge_stream_event is not None
]


class Counted(NamedTuple):
    """What became of the costs of a call.

    Attributes:
        events: that were tracked.
        unpriced: how many wait for a price.
        failed: how often capture failed.
        numbers: all that the answer held, without their signs.
    """

    events: list[CostEvent]
    unpriced: int
    failed: int
    numbers: set[Decimal]

    @property
    def seen(self) -> int:
        """Return how many traces the call left."""
        return len(self.events) + self.unpriced + self.failed


class Door:
    """An instrumented client, and an API that answers as it is told."""

    def __init__(self) -> None:
        self._tracker = RecordingClient(unattributed_customer_id="cus_fuzz")
        self._response = httpx.Response(200)
        self._client = httpx.Client(
            base_url="https://api.example.com",
            transport=httpx.MockTransport(lambda _: self._response),
        )

    def close(self) -> None:
        """Let go of everything."""
        outlay.uninstrument(self._client)
        self._client.close()
        self._tracker.close()

    def call(
        self, endpoint: Called, body: bytes, kind: str, sent: object = None
    ) -> Counted:
        """Call, and check that the caller gets what was answered."""
        outlay.instrument(
            self._client, client=self._tracker, provider=endpoint.provider
        )
        self._tracker.clear()
        before = self._tracker.stats()
        failed = sum(capture_errors.snapshot().values())
        headers = dict.fromkeys(REQUEST_IDS, f"req-{next(_numbers)}")
        headers["content-type"] = kind
        self._response = httpx.Response(200, headers=headers, content=iter([body]))
        with self._client.stream(
            endpoint.method,
            endpoint.path,
            content=json.dumps(sent),
            headers={"content-type": "application/json"},
        ) as response:
            got = response.read()

        assert (response.status_code, got) == (200, body)
        after = self._tracker.stats()
        assert after.dropped == before.dropped
        return Counted(
            self._tracker.recorded(),
            after.unpriced - before.unpriced,
            sum(capture_errors.snapshot().values()) - failed,
            {*map(Decimal, _NUMBER.findall(body.decode(errors="replace")))},
        )


_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    """Return one for all examples; what it tracked is looked at after each."""
    door = Door()
    yield door
    door.close()


TICKS: Final = 10_000_000_000


def assert_sound(counted: Counted) -> None:
    """Check that every amount is one that a call can cost."""
    for event in counted.events:
        amount = event.data["amount"]
        assert isinstance(amount, int | Decimal)
        assert not isinstance(amount, bool)
        assert Decimal(amount).is_finite()
        assert amount >= 0
        if event.data["provenance"] == "priced":
            assert amount <= DEAREST, event
        else:
            # xAI reports ticks, of which a dollar has 10,000,000,000.
            per = TICKS if event.data["provider"] == "x-ai" else 1
            assert {amount, amount * per} & counted.numbers, event


# Values.

NASTY: Final[st.SearchStrategy[Any]] = st.sampled_from(
    [
        None,
        True,
        False,
        "",
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "-1",
        "0x10",
        "١٢",
        "\ud83d\ude00",
        "a" * 5000,
        0,
        -1,
        -0.0,
        0.1,
        -1e-300,
        1e308,
        2**31,
        2**53 + 1,
        2**63,
        10**30,
        -(10**30),
        [],
        {},
        [[]],
        [None],
        [{}],
        {"": None},
        {"usage": {"usage": -1}},
    ]
)
NAMES: Final = st.one_of(
    st.sampled_from(
        sorted(
            {
                name
                for each in ENDPOINTS
                for field in getattr(registry.find_endpoint(*each), "fields", None)
                or ()
                for name in field.split(".")
            }
            | {"input_tokens", "output_tokens", "prompt_tokens", "total_cost", "cost"}
            | {"type", "event_type", "delta", "message", "response", "choices"}
        )
    ),
    st.text(max_size=4),
)
JSON: Final = st.recursive(
    NASTY | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6)
    ),
    max_leaves=10,
)
OBJECTS: Final = st.dictionaries(NAMES, JSON, max_size=8)


@EXAMPLES
@given(endpoint=st.sampled_from(ENDPOINTS), answer=JSON | OBJECTS, sent=JSON)
def test_no_answer_harms_its_call_or_makes_up_an_amount(
    door: Door,
    endpoint: Called,
    answer: Any,  # noqa: ANN401 - any JSON
    sent: Any,  # noqa: ANN401 - any JSON
) -> None:
    """Whatever JSON comes, the caller gets it, and the books stay sound."""
    body = json.dumps(answer).encode()

    assert_sound(door.call(endpoint, body, "application/json", sent))


@EXAMPLES
@given(
    endpoint=st.sampled_from(ENDPOINTS),
    body=st.binary(max_size=60)
    | st.sampled_from([b"[" * 50_000, b'{"a":' * 50_000, b"NaN", b'{"usage":1e999}']),
    kind=st.sampled_from(
        [
            "application/json",
            "text/event-stream",
            "application/vnd.amazon.eventstream",
            "text/html",
            "",
            ";;;",
        ]
    ),
)
def test_what_is_no_json_harms_nobody(
    door: Door, endpoint: Called, body: bytes, kind: str
) -> None:
    """A proxy may answer with a page; a body may be cut, or meant to do harm."""
    assert_sound(door.call(endpoint, body, kind))


@EXAMPLES
@given(
    endpoint=st.sampled_from(STREAMED),
    events=st.lists(OBJECTS | JSON, max_size=6),
    cut=st.integers(min_value=0, max_value=20),
)
def test_no_stream_harms_its_reader_or_makes_up_an_amount(
    door: Door,
    endpoint: Called,
    events: list[Any],
    cut: int,
) -> None:
    """Also one that ends in the midst of an event."""
    lines = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in events)
    body = lines[: len(lines) - cut] if cut else lines + b"data: [DONE]\n\n"

    assert_sound(door.call(endpoint, body, "text/event-stream"))


# Recorded answers, changed.


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401 - any JSON
    """Yield the way to every member of a JSON value."""
    inside = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for name, member in inside:
        yield (*path, name)
        yield from places(member, (*path, name))


@contextmanager
def parent_of(value: Any, path: tuple[Any, ...]) -> Iterator[Any]:  # noqa: ANN401 - any JSON
    """Give what holds the member at the end of ``path``."""
    for name in path[:-1]:
        value = value[name]
    yield value


REMOVED: Final = object()

ROWS: Final = [
    (row, Called(row.observed.provider, *row.request.split(" ", 1)))
    for row in recorded()
    if row.request.startswith("POST http")
]
CAPTURED: Final = [
    (row, each._replace(path=urlsplit(each.path).path))
    for row, each in ROWS
    if registry.find_endpoint(each.provider, each.method, urlsplit(each.path).path)
]


class _Numbers(json.JSONEncoder):
    def default(self, value: object) -> Any:  # noqa: ANN401 - as inherited
        return float(value) if isinstance(value, Decimal) else super().default(value)


def dumped(answer: object) -> bytes:
    """Return an answer as its provider would send it."""
    return json.dumps(answer, cls=_Numbers).encode()


def test_recorded_answers_come_through_the_door(door: Door) -> None:
    """Else the changed ones would test nothing."""
    assert len(CAPTURED) >= 60
    for row, endpoint in CAPTURED:
        counted = door.call(endpoint, dumped(fresh(row)), "application/json")
        assert counted.failed == 0, row.name
        assert counted.seen >= 1, row.name


def fresh(row: Recorded) -> dict[str, Any]:
    """Return a row's answer under an id of its own, so that it counts again."""
    text = dumped(row.response).decode()
    if row.observed.operation_id is not None:
        text = text.replace(row.observed.operation_id, f"id-{next(_numbers)}")
    answer: dict[str, Any] = json.loads(text, parse_float=Decimal)
    return answer


@EXAMPLES
@given(
    which=st.sampled_from(CAPTURED),
    data=st.data(),
    changes=st.integers(min_value=1, max_value=4),
)
def test_a_changed_answer_is_counted_or_complained_of(
    door: Door, which: tuple[Recorded, Called], data: st.DataObject, changes: int
) -> None:
    """Members missing, null, of another type, negative, huge, nested in themselves."""
    row, endpoint = which
    answer = fresh(row)
    for _ in range(changes):
        path = data.draw(st.sampled_from([*places(answer)] or [()]))
        assume(path)
        value = data.draw(st.just(REMOVED) | NASTY | JSON)
        with parent_of(answer, path) as parent:
            if value is REMOVED:
                del parent[path[-1]]
            else:
                parent[path[-1]] = copy.deepcopy(value)

    assert_sound(door.call(endpoint, dumped(answer), "application/json"))


@EXAMPLES
@given(which=st.sampled_from(CAPTURED), data=st.data())
def test_usage_that_cannot_be_read_is_never_silent(
    door: Door, which: tuple[Recorded, Called], data: st.DataObject
) -> None:
    """The money is spent: an event, an unpriced cost, or a counted failure says so."""
    row, endpoint = which
    answer = fresh(row)
    names = [name for name in ("usage", "usageMetadata", "meta") if name in answer]
    assume(names)
    answer[names[0]] = data.draw(NASTY | JSON)

    counted = door.call(endpoint, dumped(answer), "application/json")

    assert_sound(counted)
    assert counted.seen >= 1


def leaves(value: Any) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401 - any JSON
    """Yield the way to every number above zero."""
    for path in places(value):
        with parent_of(value, path) as parent:
            number = parent[path[-1]]
        if (
            isinstance(number, int | Decimal)
            and not isinstance(number, bool)
            and number
        ):
            yield path


@pytest.mark.parametrize(
    "which",
    [which for which in CAPTURED if which[0].reported is None],
    ids=lambda which: which[0].name,
)
def test_a_negative_count_makes_nothing_cheaper(
    door: Door, which: tuple[Recorded, Called]
) -> None:
    """Either it does not matter to the price, or there is no price."""
    row, endpoint = which

    def amounts(answer: dict[str, Any]) -> list[Decimal]:
        counted = door.call(endpoint, dumped(answer), "application/json")
        return [Decimal(event.data["amount"]) for event in counted.events]

    expected = amounts(fresh(row))
    for name in {"usage", "usageMetadata", "meta"} & row.response.keys():
        for path in leaves(row.response[name]):
            answer = fresh(row)
            with parent_of(answer[name], path) as parent:
                parent[path[-1]] *= -1

            assert amounts(answer) in ([], expected), path


CHAT: Final = next(which for which in CAPTURED if "chat-gpt-4o-2" in which[0].name)
GEMINI: Final = next(which for which in CAPTURED if which[0].name == "google-flash")


@pytest.mark.parametrize(
    ("which", "change", "failed"),
    [
        pytest.param(CHAT, {"model": {"name": "gpt-4o"}}, 0, id="model"),
        pytest.param(CHAT, {"service_tier": ["flex"]}, 0, id="tier"),
        pytest.param(CHAT, {"model": "m" * 5000}, 0, id="long"),
        pytest.param(
            GEMINI,
            {
                "usageMetadata": {
                    "promptTokenCount": 10,
                    "promptTokensDetails": [{"modality": 7, "tokenCount": 10}],
                }
            },
            1,
            id="what-the-list-chokes-on",
        ),
    ],
)
def test_a_cost_outlives_what_is_odd_about_it(
    door: Door, which: tuple[Recorded, Called], change: dict[str, Any], failed: int
) -> None:
    """It waits for a person, or is priced by what is left: it does not vanish."""
    row, endpoint = which

    counted = door.call(endpoint, dumped(fresh(row) | change), "application/json")

    assert (len(counted.events) + counted.unpriced, counted.failed) == (1, failed)


BOMB: Final = b"1e999999999"
"""A number of a billion digits, if a program writes it out."""


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids="-".join)
def test_a_number_without_end_is_never_written_out(
    door: Door, endpoint: Called
) -> None:
    """Eleven bytes must not take a gigabyte."""
    found = registry.find_endpoint(*endpoint)
    assert found is not None
    names = {name for field in found.fields or () for name in field.split(".")}
    counts = b",".join(b'"%b":%b' % (name.encode(), BOMB) for name in UNITS)
    members = {name.encode(): b"{%b}" % counts for name in names}
    members |= {name: BOMB for name in members if name not in REPORTS}
    body = b",".join(b'"%b":%b' % each for each in members.items())

    for answer in (b"{%b}" % body, b'{"usage":%b}' % BOMB):
        counted = door.call(endpoint, answer, "application/json")
        assert counted.events == []


REPORTS: Final = {b"usage", b"usageMetadata", b"meta", b"usage_info", b"metrics"}
UNITS: Final = (
    "prompt_tokens",
    "completion_tokens",
    "input_tokens",
    "output_tokens",
    "promptTokenCount",
    "billed_units",
    "pages_processed",
    "seconds",
    "cost",
)
