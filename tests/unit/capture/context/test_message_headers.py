"""`carry` and `resume`: whose costs they are, from one process to another."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal
from email.message import Message
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

import outlay
from outlay import attribute
from outlay._model.attribution import UNATTRIBUTED, current_attribution
from outlay.propagation import extract, inject
from outlay.testing import RecordingClient
from tests.support.processes import run

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

HEADER: Final = "outlay-attribution"


def resumed(headers: Any) -> tuple[Any, ...]:  # noqa: ANN401 - of any kind
    """Return whose the costs are where a message with ``headers`` is handled."""
    with extract(headers):
        said = current_attribution.get()
    return (*said[:3], dict(said.dimensions))


NOTHING: Final[tuple[Any, ...]] = (None, None, None, {})


def header(value: object) -> Mapping[str, object]:
    """Return headers with ours among others."""
    return {"content-type": "text/plain", HEADER: value, "x-trace": "1"}


def test_the_header_is_as_documented() -> None:
    """Other languages, and later versions, read it."""
    with attribute(
        customer_id="Zoë & Søn; 50%", operation="a b", region="eu-1", tier=1, x="é"
    ):
        headers = inject()

    assert headers == {
        HEADER: "1;customer_id=Zo%C3%AB%20%26%20S%C3%B8n%3B%2050%25;operation=a%20b;"
        "region=eu-1;data=%7B%22tier%22%3A1%2C%22x%22%3A%22%C3%A9%22%7D;"
    }
    assert resumed(headers) == (
        "Zoë & Søn; 50%",
        "a b",
        "eu-1",
        {"tier": 1, "x": "é"},
    )


def test_nobody_is_carried_as_nothing() -> None:
    """A message says no more than the code that sends it."""
    assert inject() == {}
    assert resumed(inject()) == resumed({}) == resumed(None) == NOTHING


def test_what_is_carried_in_part_is_resumed_in_part() -> None:
    """A scope may know the region only."""
    with attribute(region="eu"):
        headers = inject()
    with attribute(customer_id="cus_1", region="us"):
        assert resumed(headers) == ("cus_1", None, "eu", {})


def test_costs_are_the_same_here_and_there() -> None:
    """The event that the worker tracks is the one that the sender would have."""
    here, there = RecordingClient(), RecordingClient()
    scope = attribute(
        customer_id="cus_1", operation="sum", rate=Decimal("0.10"), on=True, n=[0.1]
    )
    with scope:
        headers = json.loads(json.dumps(inject()))
        here.track_cost("cost.a", 1, operation_id=1)
    with extract(headers):
        there.track_cost("cost.a", 1, operation_id=1)

    (one,), (other,) = here.recorded(), there.recorded()
    assert one.idempotency_key == other.idempotency_key
    assert (one.subject, one.data) == (other.subject, other.data)
    assert str(other.data["rate"]) == "0.10"


def _work(headers: dict[str, str]) -> tuple[Any, ...]:
    return resumed(headers)


def test_a_pool_of_processes_gets_it_as_an_argument() -> None:
    """Bound functions stay in their process."""
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor,
        attribute(customer_id="cus_1"),
    ):
        future = executor.submit(_work, inject())

    assert future.result() == ("cus_1", None, None, {})


# Functions.


def test_a_message_can_be_resumed_by_functions_of_every_kind() -> None:
    """It is a scope like `attribute`'s."""
    with attribute(customer_id="cus_1"):
        scope = extract(inject())

    @scope
    def plain() -> str | None:
        return current_attribution.get().customer_id

    @scope
    async def asynchronous() -> str | None:
        await asyncio.sleep(0)
        return current_attribution.get().customer_id

    @scope
    def rows() -> Generator[str | None]:
        yield current_attribution.get().customer_id

    seen = [plain(), asyncio.run(asynchronous()), *rows()]
    assert seen == ["cus_1"] * 3
    assert current_attribution.get() is UNATTRIBUTED


# Messages as they come.


CARRIED: Final = "1;customer_id=cus_1;"


def _message() -> Message:
    message = Message()
    message["Outlay-Attribution"] = CARRIED
    return message


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Outlay-Attribution": CARRIED}, id="title case"),
        pytest.param({HEADER.upper(): CARRIED}, id="upper case"),
        pytest.param({HEADER: CARRIED.encode()}, id="Kafka"),
        pytest.param({HEADER.encode(): CARRIED.encode()}, id="ASGI"),
        pytest.param(httpx.Headers({HEADER: CARRIED}), id="httpx"),
        pytest.param(_message(), id="e-mail"),
    ],
)
def test_headers_of_every_library_are_read(headers: object) -> None:
    """Each has its own class and its own case."""
    assert resumed(headers) == ("cus_1", None, None, {})


def test_what_a_later_version_adds_is_passed_over() -> None:
    """Workers are not deployed before all their senders."""
    headers = header("1;customer_id=cus_1;team=a%20b;region=eu;")

    assert resumed(headers) == ("cus_1", None, "eu", {})


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="empty"),
        pytest.param("cus_1", id="of another make"),
        pytest.param("2;customer_id=cus_1;", id="later version"),
        pytest.param("1;customer_id=cus_1", id="cut off"),
        pytest.param("1;customer_id=cus_1;, 1;customer_id=cus_2;", id="joined"),
        pytest.param("1;customer_id=cus_1;customer_id=cus_2;", id="said twice"),
        pytest.param("1;customer_id=a b;", id="not encoded"),
        pytest.param("1;customer_id=%zz;", id="no code"),
        pytest.param("1;customer_id=%FF;", id="no text"),
        pytest.param("1;customer_id=%00;", id="control character"),
        pytest.param("1;customer_id=%20;", id="blank"),
        pytest.param(f"1;customer_id={'x' * 256};", id="long customer"),
        pytest.param("1;customer_id=;", id="no customer"),
        pytest.param("1;data=1;", id="data of another kind"),
        pytest.param("1;data=%7B;", id="no JSON"),
        pytest.param("1;data=%7B%22amount%22%3A1%7D;", id="a name of outlay's own"),
        pytest.param("1;data=%7B%22a%22%3A" + "%5B" * 1300 + ";", id="deep"),
        pytest.param(f"1;customer_id=cus_1;note={'y' * 4096};", id="too long"),
        pytest.param(CARRIED + "é", id="not ASCII"),
        pytest.param(b"\xff", id="bytes that are no text"),
        pytest.param(7, id="number"),
        pytest.param(["1;customer_id=cus_1;"], id="list"),
    ],
)
def test_a_malformed_header_says_nothing_and_the_job_runs(value: object) -> None:
    """Half of a customer's id may be another customer's."""
    assert resumed(header(value)) == NOTHING


def test_a_malformed_header_is_logged_and_not_quoted() -> None:
    """Costs lose their customer, so it is logged. What was in it may be personal."""
    program = """
import logging
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
for _ in range(3):
    header = {"outlay-attribution": "1;customer_id=ada%00%40example.com;"}
    with outlay.propagation.extract(header):
        print("the job runs")
"""
    first, *rest = run(program, {}).splitlines()

    assert first.startswith("WARNING the header outlay-attribution has no valid")
    assert "remove the control characters" in first
    assert "ada" not in first
    assert rest == ["the job runs"] * 3


# Mistakes of the caller.


def test_too_much_to_carry_is_refused_where_it_is_sent() -> None:
    """A server that refuses long headers would not say which one."""
    with (
        attribute(customer_id="cus_1", notes="x" * 4500),
        pytest.raises(outlay.InvalidEventError, match=r"4096 are allowed") as caught,
    ):
        inject()

    assert caught.value.field == "attribution"


def test_the_longest_header_that_can_be_carried_can_be_resumed() -> None:
    """Both sides draw the same line."""
    bare = len("1;data=" + "%7B%22x%22%3A%22%22%7D;")
    with attribute(x="y" * (4096 - bare)):
        headers = inject()
    with attribute(x="y" * (4097 - bare)), pytest.raises(outlay.InvalidEventError):
        inject()

    assert len(headers[HEADER]) == 4096
    assert resumed(headers)[3] == {"x": "y" * (4096 - bare)}


@pytest.mark.parametrize("wrong", ["x", 7, [(HEADER, CARRIED)]], ids=repr)
def test_what_is_no_mapping_is_refused(wrong: object) -> None:
    """It would be in no message, so it is a mistake in the code."""
    with pytest.raises(outlay.ConfigError, match="as a mapping"):
        extract(wrong)  # type: ignore[arg-type] # on purpose
