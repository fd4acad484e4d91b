"""From pending to a outcome: every path that an event can take, step by step."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import random
import shutil
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outlay._journal.frames import SEGMENT_HEADER_BYTES, STATE_AT
from outlay._shipping.batching import PAUSE_SECONDS
from outlay._shipping.concurrency import INITIAL
from outlay._shipping.event_queue import WINDOW_BATCHES, WINDOW_SINGLES
from outlay._shipping.settlement import MAX_FAILURES
from outlay._shipping.wire import PlannedRequest
from outlay.errors import UnavailableError
from outlay.transport import TransportResponse
from tests.support.answers import accepted, refused, stored
from tests.support.clock import HOUR
from tests.support.dispatching import Bench
from tests.support.events import payload
from tests.support.journals import dead_letters, segment_files

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.events import Batching
    from tests.support.transports import Line

_LOST: Final = UnavailableError("ReadTimeout", sent=True)
_UNREACHABLE: Final = UnavailableError("ConnectError", sent=False)
_UNMATCHED: Final = refused(422, "invalid_event_type", "no metric has it")
_OFFER: Final = "/v0/events/batch; max=1000"
_DAY: Final = 24 * HOUR


def _key(body: bytes) -> str:
    return str(json.loads(body)["idempotencyKey"])


def _batch_keys(body: bytes) -> list[str]:
    return [event["idempotencyKey"] for event in json.loads(body)["events"]]


# Delivery.


def test_events_are_delivered_oldest_first_byte_for_byte(tmp_path: Path) -> None:
    """What arrives is what was tracked."""
    bench = Bench(tmp_path)
    bench.track(1, 2, 3)

    bench.ship()

    assert bench.sent == [payload(1), payload(2), payload(3)]
    assert bench.counts == {"delivered": 3}


@pytest.mark.parametrize(
    "trouble",
    [
        refused(401),
        refused(408),
        refused(429),
        refused(500),
        refused(503),
        refused(302),
        _LOST,
        _UNREACHABLE,
        RuntimeError("a transport of the user's broke"),
        asyncio.CancelledError("a transport of the user's gave up"),
    ],
    ids=[
        "401",
        "408",
        "429",
        "500",
        "503",
        "302",
        "lost",
        "unreachable",
        "error",
        "end",
    ],
)
def test_every_retry_sends_the_same_bytes(tmp_path: Path, trouble: Line) -> None:
    """Same key, time and amount: the server can tell that it is the same event."""
    bench = Bench(tmp_path, [trouble, trouble])
    bench.track(1)

    bench.ship_for(600)

    assert bench.sent == [payload(1)] * 3
    assert bench.counts == {"delivered": 1}
    assert bench.planner.counts["retried"] == 2


@pytest.mark.parametrize("batching", ["never", "auto", "always"])
def test_nothing_is_sent_while_there_is_nothing(
    tmp_path: Path, batching: Batching
) -> None:
    """An idle client is silent, and sleeps until it is woken."""
    bench = Bench(tmp_path, batching=batching)

    assert bench.ship() == float("inf")
    assert bench.sent == []


# Outcomes of one event.


def test_a_rejected_event_becomes_a_dead_letter_with_the_servers_words(
    tmp_path: Path,
) -> None:
    """The same bytes can never be accepted; a person decides."""
    bench = Bench(tmp_path, [refused(400, "validation_error", "data is odd")])
    bench.track(1, 2)

    bench.ship()

    (letter,) = dead_letters(tmp_path)
    assert bench.counts == {"dead": 1, "delivered": 1}
    assert letter["message"] == "HTTP 400: data is odd"
    assert (letter["reason"], letter["attempts"]) == ("rejected", 1)
    assert letter["event"] == json.loads(payload(1))
    assert [burial.payload for burial in bench.planner.take_deliveries().dead] == [
        payload(1)
    ]


def test_a_type_that_no_metric_has_is_parked_and_does_not_hold_up_others(
    tmp_path: Path,
) -> None:
    """Its events are asked about once, and not each."""
    bench = Bench(tmp_path, [_UNMATCHED])
    bench.track(1, 2, 3, event_type="cost.new")
    bench.track(4)

    bench.ship()

    assert bench.sent == [payload(1, event_type="cost.new"), payload(4)]
    assert bench.counts == {"parked": 3, "delivered": 1}


def test_parked_events_are_tried_again_on_a_slow_clock(tmp_path: Path) -> None:
    """As soon as the metric exists, they are delivered. None is lost."""
    bench = Bench(tmp_path, [_UNMATCHED, _UNMATCHED], parked_retry_interval=HOUR)
    bench.track(1, 2, event_type="cost.new")
    bench.ship()

    bench.ship_for(HOUR - 1)
    before = len(bench.sent)
    bench.ship_for(1)
    again = len(bench.sent)
    bench.ship_for(HOUR)

    assert (before, again) == (1, 2)
    assert bench.counts == {"delivered": 2}


def test_a_parked_event_may_wait_longer_than_the_window(tmp_path: Path) -> None:
    """It was refused for certain: the server has not counted it, however old it is."""
    bench = Bench(tmp_path, [_UNMATCHED] * 100, parked_retry_interval=HOUR)
    bench.track(1)

    bench.ship_for(3 * _DAY)
    assert bench.counts == {"parked": 1}
    bench.ship_for(3 * _DAY)

    assert bench.counts == {"delivered": 1}


@pytest.mark.parametrize("status", [409, 418])
def test_odd_refusals_park_the_event_alone(tmp_path: Path, status: int) -> None:
    """We know of nothing wrong with it, so it is not given up; nor is its type."""
    bench = Bench(tmp_path, [refused(status)])
    bench.track(1, 2)

    bench.ship()

    assert bench.counts == {"parked": 1, "delivered": 1}


def test_a_poison_event_that_breaks_the_server_holds_up_nobody(tmp_path: Path) -> None:
    """500 for one event: the others go on, it is tried again and parked in the end."""
    poison = payload(2)

    def respond(_: str, body: bytes) -> TransportResponse:
        return refused(500) if body == poison else accepted()

    bench = Bench(tmp_path, itertools.repeat(respond, 500))
    bench.track(*range(1, 100))

    bench.ship()
    assert bench.counts == {"delivered": 98}
    bench.ship_for(HOUR / 2)

    assert bench.counts == {"delivered": 98, "parked": 1}
    assert bench.sent.count(poison) == MAX_FAILURES


@pytest.mark.parametrize(
    "trouble", [_LOST, refused(502), refused(503)], ids=["reset", "502", "503"]
)
def test_a_poison_event_that_cuts_the_connection_holds_up_nobody(
    tmp_path: Path, trouble: Line
) -> None:
    """A server that crashes on one event looks like an outage; only for that one."""
    poison = payload(2)

    def respond(_: str, body: bytes) -> TransportResponse:
        if body != poison:
            return accepted()
        if isinstance(trouble, Exception):
            raise trouble
        assert isinstance(trouble, TransportResponse)
        return trouble

    bench = Bench(tmp_path, itertools.repeat(respond, 5000))
    bench.track(*range(1, 100))

    bench.ship_for(120)

    assert bench.counts == {"delivered": 98}
    assert bench.pending == 1, "it may have been counted: it is neither dead nor lost"


def test_an_event_given_up_for_now_is_said_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Parked means that a person has to look."""
    bench = Bench(tmp_path, [refused(500, "internal", "oops")] * 100)
    bench.track(1)

    bench.ship_for(HOUR / 2)

    assert bench.counts == {"parked": 1}
    assert "parked" in caplog.text
    assert "oops" in caplog.text


# One event, or all?


def _page(status: int, **headers: str) -> TransportResponse:
    return TransportResponse(status, headers, b"<html>plain HTTP request</html>")


_WALLS: Final = [refused(403), _page(403), refused(302), _page(400), _page(413)]
_WALL_IDS: Final = ["403", "403 page", "302", "400 page", "413 page"]


def _wall(trouble: TransportResponse, *numbers: int) -> Line:
    """Refuse some events for their text, in a batch or alone."""
    disliked = [_key(payload(number)) for number in numbers]

    def respond(path: str, body: bytes) -> TransportResponse:
        batch = path.endswith("batch")
        keys = _batch_keys(body) if batch else [_key(body)]
        if any(key in disliked for key in keys):
            return trouble
        return stored(len(keys)) if batch else accepted()

    return respond


@pytest.mark.parametrize("batching", ["never", "always"])
@pytest.mark.parametrize("numbers", [(1,), (3, 7), (1, 2, 3, 4)], ids=str)
@pytest.mark.parametrize("trouble", _WALLS, ids=_WALL_IDS)
def test_an_event_that_a_hop_dislikes_is_parked_alone_and_named(
    tmp_path: Path,
    trouble: TransportResponse,
    numbers: tuple[int, ...],
    batching: Batching,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A firewall refuses its text; all others pass, whichever comes first."""
    bench = Bench(
        tmp_path, itertools.repeat(_wall(trouble, *numbers), 5000), batching=batching
    )
    bench.track(*range(1, 21))

    for number in range(30):
        bench.ship_for(60)
        bench.track(100 + number)  # the application goes on

    bench.ship_for(60)
    assert bench.counts == {"delivered": 50 - len(numbers), "parked": len(numbers)}
    assert any(_key(payload(number)) in caplog.text for number in numbers)
    assert dead_letters(tmp_path) == []


@pytest.mark.parametrize("trouble", _WALLS, ids=_WALL_IDS)
def test_an_event_that_is_refused_alone_in_the_end_is_parked_and_delays_none(
    tmp_path: Path, trouble: TransportResponse, caplog: pytest.LogCaptureFixture
) -> None:
    """There is no other event to try. The next one ships as soon as it is tracked."""
    bench = Bench(tmp_path, itertools.repeat(_wall(trouble, 2), 100))
    bench.track(1, 2)
    bench.ship_for(10)
    parked = bench.counts

    bench.track(3)
    bench.ship()

    assert parked == {"delivered": 1, "parked": 1}
    assert payload(3) in bench.sent
    assert "refused 3 times, and there was no other event" in caplog.text
    assert _key(payload(2)) in caplog.text
    assert "paused" not in caplog.text
    bench.ship_for(10)
    assert bench.counts == {"delivered": 2, "parked": 1}


@pytest.mark.parametrize("trouble", _WALLS, ids=_WALL_IDS)
def test_a_pause_for_the_only_event_ends_with_the_next_one(
    tmp_path: Path, trouble: TransportResponse, caplog: pytest.LogCaptureFixture
) -> None:
    """A new process knows nothing of the destination, and must not wait a minute."""
    bench = Bench(tmp_path, itertools.repeat(_wall(trouble, 1), 100))
    bench.track(1)
    assert bench.ship() > 50
    assert bench.planner.idle, "the next event wakes the shipper"
    paused = len(bench.sent)

    bench.track(2)
    bench.ship()

    assert paused == 2
    assert caplog.text.count("paused") == 1
    assert bench.counts == {"delivered": 1, "parked": 1}
    assert _key(payload(1)) in caplog.text


@pytest.mark.parametrize("trouble", _WALLS, ids=_WALL_IDS)
def test_a_third_event_that_is_refused_makes_the_pause_one_for_all(
    tmp_path: Path, trouble: TransportResponse
) -> None:
    """A key that is wrong must not cost a request for each event."""
    bench = Bench(tmp_path, itertools.repeat(trouble, 100))
    for number in range(20):
        bench.track(number)
        bench.ship()

    assert len(bench.sent) == 4, "the first one twice, and two others"
    assert bench.counts == {}


@pytest.mark.parametrize("trouble", _WALLS, ids=_WALL_IDS)
def test_events_that_were_parked_without_a_comparison_follow_the_next_success(
    tmp_path: Path, trouble: TransportResponse
) -> None:
    """A permission was withdrawn for a moment, and the application was quiet."""
    bench = Bench(tmp_path)
    bench.track(1)
    bench.ship()
    bench.transport.script(*[trouble] * 3)
    bench.track(2)
    bench.ship_for(10)
    parked = bench.counts

    bench.track(3)
    bench.ship_for(1)

    assert parked == {"delivered": 1, "parked": 1}
    assert bench.counts == {"delivered": 3}


@pytest.mark.parametrize("trouble", _WALLS, ids=_WALL_IDS)
def test_what_refuses_all_events_for_a_while_parks_and_kills_none(
    tmp_path: Path, trouble: TransportResponse
) -> None:
    """A permission that is withdrawn for an hour is no fault of the events."""
    bench = Bench(tmp_path)
    bench.track(1)
    bench.ship()
    bench.transport.script(*[trouble] * 60)
    bench.track(*range(2, 100))

    bench.ship_for(2 * HOUR)

    assert bench.counts == {"delivered": 99}
    assert len(bench.sent) == 99 + 60


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_page_in_place_of_the_service_makes_no_dead_letters_and_a_pause(
    tmp_path: Path, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The log shows what responded, and the likely cause."""
    bench = Bench(tmp_path, itertools.repeat(_page(status, server="nginx"), 5000))
    bench.track(*range(20))

    bench.ship_for(600)

    assert bench.counts == {}
    assert bench.pending == 20
    assert len(bench.sent) <= 3 + 10, "then it is tried once a minute"
    assert f"HTTP {status}: '<html>plain HTTP request</html>' from nginx" in caplog.text
    assert "OUTLAY_BASE_URL" in caplog.text


def test_an_event_that_is_not_found_holds_back_itself_until_others_pass(
    tmp_path: Path,
) -> None:
    """During a rolling deploy, the next request reaches another server."""
    bench = Bench(tmp_path, [refused(404)] * 3)
    bench.track(*range(1, 6))

    bench.ship_for(10)

    assert bench.counts == {"delivered": 5}
    assert len(bench.sent) == 5 + 3


def test_an_event_that_is_never_found_is_not_asked_for_with_each_success(
    tmp_path: Path,
) -> None:
    """The time between its retries doubles."""
    gone = payload(0)

    def respond(_: str, body: bytes) -> TransportResponse:
        return refused(404) if body == gone else accepted()

    bench = Bench(tmp_path, itertools.repeat(respond, 5000))
    for number in range(600):
        bench.track(number)
        bench.ship_for(1)

    assert bench.counts == {"delivered": 599, "parked": 1}
    assert bench.sent.count(gone) < 20


def _unmatched_until(created: list[bool]) -> Line:
    offer = {"outlay-unparks": "true"}

    def respond(_: str, body: bytes) -> TransportResponse:
        if created or b'"type":"cost.new"' not in body:
            return accepted()
        return _UNMATCHED._replace(headers=offer)

    return respond


def test_a_metric_that_appears_frees_its_events_within_seconds_where_offered(
    tmp_path: Path,
) -> None:
    """One event asks every five seconds; the rest follows its success."""
    created: list[bool] = []
    bench = Bench(tmp_path, itertools.repeat(_unmatched_until(created), 5000))
    bench.track(*range(100), event_type="cost.new")
    bench.ship_for(11)
    asked = len(bench.sent)

    created.append(True)
    bench.ship_for(20)

    assert asked == 2
    assert bench.counts == {"delivered": 100}


def test_the_first_response_invites_early_retries_already(tmp_path: Path) -> None:
    """All events of the type may be in one batch, and no response follows."""
    failed = dict.fromkeys(range(20), (422, "invalid_event_type"))
    invited = stored(20, failed)._replace(headers={"outlay-unparks": "true"})
    bench = Bench(tmp_path, [invited, stored(20)], batching="always")
    bench.track(*range(20), event_type="cost.new")

    bench.ship_for(6)

    assert bench.counts == {"delivered": 20}


def test_a_metric_that_never_appears_is_asked_for_once_a_minute(tmp_path: Path) -> None:
    """An hour of a mistake must not be a load."""
    bench = Bench(tmp_path, itertools.repeat(_unmatched_until([]), 5000))
    bench.track(*range(100), event_type="cost.new")

    bench.ship_for(HOUR)

    assert bench.counts == {"parked": 100}
    assert 55 < len(bench.sent) < 70


# Trouble of the whole server.


@pytest.mark.parametrize("status", [401, 403, 307])
def test_a_refused_credential_pauses_keeps_everything_and_says_so_once(
    tmp_path: Path, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Until a person acts, no event can be accepted, and none may be lost."""
    bench = Bench(tmp_path, [refused(status)] * 50, retry_max=60.0)
    bench.track(*range(10))

    bench.ship_for(600)

    assert len(bench.sent) <= 3 + 10, "it is tried once a minute"
    assert bench.counts == {}
    assert bench.pending == 10
    assert caplog.text.count("shipping is paused") == 1
    assert "OUTLAY_API_KEY" in caplog.text


def test_shipping_resumes_when_the_credential_is_accepted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No restart is needed, and the log says that the pause is over."""
    caplog.set_level(logging.INFO, "outlay")
    bench = Bench(tmp_path, [refused(401)] * 3)
    bench.track(*range(10))

    bench.ship_for(_DAY + HOUR)

    assert bench.counts == {"delivered": 10}
    assert "shipping resumes" in caplog.text


def test_after_an_outage_one_probe_goes_before_the_rest(tmp_path: Path) -> None:
    """A server that comes back meets one request, not all that piled up."""
    bench = Bench(tmp_path, [refused(503)])
    bench.track(*range(10))
    wait = bench.ship()
    bench.clock.advance(wait)

    probe = bench.plan()
    meanwhile = bench.plan()

    assert isinstance(probe, PlannedRequest)
    assert meanwhile == float("inf")
    bench.perform(probe)
    assert isinstance(bench.plan(), PlannedRequest)


def test_backoff_slows_down_while_the_server_is_down(tmp_path: Path) -> None:
    """A day of outage makes some thousand requests, whatever the backlog."""
    bench = Bench(tmp_path, itertools.repeat(_UNREACHABLE, 100_000), retry_max=60.0)
    bench.track(*range(200))

    bench.ship_for(_DAY)

    assert _DAY / 60 < len(bench.sent) < _DAY / 60 * 5
    assert bench.counts == {}
    assert bench.pending == 200


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed_to_the_second(tmp_path: Path, status: int) -> None:
    """The server knows when it will be ready."""
    bench = Bench(tmp_path, [refused(status, retry_after="120")])
    bench.track(1, 2)

    wait = bench.ship()
    bench.ship_for(119.9)
    before = len(bench.sent)
    bench.ship_for(0.2)

    assert wait == pytest.approx(120)
    assert before == 1
    assert bench.counts == {"delivered": 2}


def _under_way(bench: Bench) -> list[PlannedRequest]:
    """Learn that the server is far away, then start all that may be under way."""
    bench.track(99)
    bench.ship()
    bench.track(*range(10))
    jobs = []
    while isinstance(step := bench.plan(), PlannedRequest):
        jobs.append(step)
    return jobs


def test_no_more_are_under_way_than_are_wanted(tmp_path: Path) -> None:
    """A refused request would else go again at once, and be refused again."""
    bench = Bench(tmp_path)

    jobs = _under_way(bench)
    meanwhile = bench.plan()
    bench.perform(jobs[0])
    afterwards = bench.plan()

    assert len(jobs) == INITIAL
    assert meanwhile == float("inf")
    assert isinstance(afterwards, PlannedRequest)


def test_too_many_at_once_makes_them_fewer_and_nobody_waits(tmp_path: Path) -> None:
    """A server that takes some of them is up: a pause would only waste its time."""
    bench = Bench(tmp_path, [accepted(), refused(429)])
    jobs = _under_way(bench)

    for job in jobs[:-1]:
        bench.perform(job)
    again = bench.plan()

    assert bench.planner.target_concurrency == INITIAL // 2
    assert isinstance(again, PlannedRequest)
    assert again.events == jobs[0].events, "the refused one goes next"


def test_too_many_though_it_was_alone_means_to_wait(tmp_path: Path) -> None:
    """Then it is the rate that is too high, and fewer at once would not help."""
    bench = Bench(tmp_path, [refused(429)] * 3)
    bench.track(1)

    wait = bench.ship()

    assert wait > 0
    assert len(bench.sent) == 1


def test_when_all_of_many_are_refused_the_last_one_shuts_the_gate(
    tmp_path: Path,
) -> None:
    """A limit of the rate refuses the whole herd; it must not run in circles."""
    bench = Bench(tmp_path, [accepted(), *[refused(429)] * 20])

    for job in _under_way(bench):
        bench.perform(job)
    wait = bench.plan()

    assert isinstance(wait, float)
    assert 0 < wait < 60


def test_what_was_under_way_does_not_end_the_wait_that_the_server_asked_for(
    tmp_path: Path,
) -> None:
    """It asked all of us to stay away, and told one."""
    bench = Bench(tmp_path, [accepted(), refused(503, retry_after="60"), accepted()])

    for job in _under_way(bench):
        bench.perform(job)

    assert bench.ship() == pytest.approx(60)


def test_retry_after_as_a_date_is_obeyed(tmp_path: Path) -> None:
    """The other form of the header."""
    at = "Thu, 01 Jan 2026 12:02:00 GMT"
    bench = Bench(tmp_path, [refused(503, retry_after=at)])
    bench.track(1)

    assert bench.ship() == pytest.approx(120)


def test_a_server_that_always_says_retry_after_zero_is_not_hammered(
    tmp_path: Path,
) -> None:
    """Politeness is not the server's job alone."""
    bench = Bench(tmp_path, [refused(503, retry_after="0")] * 1000)
    bench.track(1)

    bench.ship_for(600)

    assert len(bench.sent) < 100


def test_a_flush_tries_at_once(tmp_path: Path) -> None:
    """A caller waits: no backoff, but one probe only."""
    bench = Bench(tmp_path, [refused(503, retry_after="3000"), refused(503)])
    bench.track(1)
    bench.ship()

    bench.planner.skip_backoff()
    bench.ship()

    assert len(bench.sent) == 2


def test_five_errors_of_single_events_in_a_row_are_an_outage(tmp_path: Path) -> None:
    """A database that is down answers 500 to everything."""
    bench = Bench(tmp_path, [refused(500)] * 50)
    bench.track(*range(50))

    bench.ship()

    assert len(bench.sent) == 5
    bench.ship_for(HOUR)
    bench.ship_for(2 * HOUR)
    assert bench.counts == {"delivered": 50}


# The window rule.


@pytest.mark.parametrize(
    "ambiguous",
    [_LOST, refused(408), refused(500), refused(503), TransportResponse(999, {}, b"")],
    ids=["no answer", "408", "500", "503", "not HTTP"],
)
def test_an_event_that_may_have_been_counted_is_quarantined_after_the_window(
    tmp_path: Path, ambiguous: Line
) -> None:
    """Past it the server no longer knows the key: sending again could bill twice."""
    bench = Bench(tmp_path, [ambiguous])
    bench.track(1)
    assert bench.ship() > 0

    bench.clock.advance(23 * HOUR + 1)
    bench.ship()

    (letter,) = dead_letters(tmp_path)
    assert bench.counts == {"quarantined": 1}
    assert (letter["kind"], letter["reason"]) == ("quarantined", "dedupe_window")
    assert letter["firstAttemptAt"] == "2026-01-01T12:00:00.000Z"
    assert len(bench.sent) == 1


def test_a_clock_that_is_set_back_later_does_not_make_an_event_younger(
    tmp_path: Path,
) -> None:
    """The attempt is not in the future then, so the wall clock alone would not tell."""
    bench = Bench(tmp_path, [_LOST, _LOST])
    bench.track(1)
    bench.ship()
    bench.clock.advance(10 * HOUR)
    bench.ship()  # after which the first attempt stays the first
    bench.clock.step(-5 * HOUR)
    bench.clock.advance(14 * HOUR)
    bench.ship()

    assert bench.counts == {"quarantined": 1}
    assert len(bench.sent) == 2


def test_doubt_begins_with_the_first_attempt_that_was_not_refused(
    tmp_path: Path,
) -> None:
    """A day of refusals is no day of doubt, by either clock."""
    bench = Bench(tmp_path, [refused(429), _LOST])
    bench.track(1)
    bench.ship()
    bench.clock.advance(_DAY)
    bench.ship()
    bench.clock.advance(HOUR)
    bench.ship()

    assert bench.counts == {"delivered": 1}
    assert len(bench.sent) == 3


def test_within_the_window_it_is_sent_again(tmp_path: Path) -> None:
    """The server recognises the key."""
    bench = Bench(tmp_path, [_LOST])
    bench.track(1)
    bench.ship()

    bench.clock.advance(23 * HOUR - 1)
    bench.ship()

    assert bench.counts == {"delivered": 1}


@pytest.mark.parametrize(
    "definite",
    [_UNREACHABLE, refused(401), refused(403), refused(425), refused(429)],
    ids=["no connection", "401", "403", "425", "429"],
)
def test_a_definite_refusal_starts_no_window(tmp_path: Path, definite: Line) -> None:
    """The server certainly did not count it: it may wait for ever."""
    bench = Bench(tmp_path, [definite])
    bench.track(1)
    bench.ship()

    bench.clock.advance(30 * _DAY)
    bench.ship()

    assert bench.counts == {"delivered": 1}


def test_a_definite_refusal_does_not_undo_an_earlier_doubt(tmp_path: Path) -> None:
    """The attempt that may have been counted is still as old as it is."""
    bench = Bench(tmp_path, [_LOST, refused(429)])
    bench.track(1)
    bench.ship()
    bench.clock.advance(20 * HOUR)
    bench.ship()
    bench.clock.advance(4 * HOUR)

    bench.ship()

    assert len(bench.sent) == 2
    assert bench.counts == {"quarantined": 1}


def test_an_event_never_attempted_may_wait_for_ever(tmp_path: Path) -> None:
    """A laptop that was closed for a month still ships."""
    bench = Bench(tmp_path)
    bench.track(1)
    bench.restart()

    bench.clock.advance(400 * _DAY)
    bench.ship()

    assert bench.counts == {"delivered": 1}


def test_the_window_goes_on_while_no_process_runs(tmp_path: Path) -> None:
    """The date is on disk, written before the first byte left."""
    bench = Bench(tmp_path)
    bench.track(1, 2)
    assert isinstance(bench.plan(), PlannedRequest), (
        "a request is under way when the process dies"
    )

    bench.restart()
    bench.clock.advance(24 * HOUR)
    bench.ship()

    assert bench.counts == {"quarantined": 1, "delivered": 1}


@pytest.mark.parametrize("hours", [-48, -2, 48])
def test_a_stepped_clock_makes_the_age_unknown_and_unknown_is_quarantined(
    tmp_path: Path, hours: int
) -> None:
    """Whether the window is over cannot be told: a person may send it again."""
    bench = Bench(tmp_path, [_LOST])
    bench.track(1, 2)
    bench.ship()

    bench.clock.step(hours * HOUR)
    bench.ship_for(120)

    assert bench.counts == {"quarantined": 1, "delivered": 1}


@pytest.mark.parametrize("hours", [-0.9, 0.9])
def test_a_small_step_of_the_clock_quarantines_nothing(
    tmp_path: Path, hours: float
) -> None:
    """Time synchronisation corrects clocks all the time."""
    bench = Bench(tmp_path, [_LOST])
    bench.track(1)
    bench.ship()

    bench.clock.step(hours * HOUR)
    bench.ship_for(120)

    assert bench.counts == {"delivered": 1}


def test_an_event_whose_outcome_the_disk_lost_is_quarantined(tmp_path: Path) -> None:
    """It may have been delivered: neither lost nor silently sent twice."""
    bench = Bench(tmp_path)
    bench.track(1, 2)
    bench.journal.close()
    (segment,) = segment_files(tmp_path)
    content = bytearray(segment.read_bytes())
    content[SEGMENT_HEADER_BYTES + STATE_AT] ^= 1
    segment.write_bytes(content)

    bench.restart()
    bench.ship()

    (letter,) = dead_letters(tmp_path)
    assert bench.counts == {"quarantined": 1, "delivered": 1}
    assert bench.sent == [payload(2)]
    assert letter["event"] == json.loads(payload(1))
    assert "firstAttemptAt" not in letter


def test_quarantine_without_a_disk_keeps_the_event(tmp_path: Path) -> None:
    """Where no dead letter can be written, nothing may be given up."""
    bench = Bench(tmp_path, [_LOST])
    bench.track(1)
    bench.ship()
    shutil.rmtree(bench.journal.folder.dead_path)

    bench.clock.advance(24 * HOUR)
    bench.ship()

    assert bench.counts == {"parked": 1}
    assert len(bench.sent) == 1


# Batches.


def _batches(
    tmp_path: Path,
    script: list[Line],
    *,
    linger: float = 0.1,
    retry_max: float = 60.0,
    max_batch_events: int = 1000,
    max_batch_bytes: int = 1024 * 1024,
) -> Bench:
    return Bench(
        tmp_path,
        script,
        batching="always",
        linger=linger,
        retry_max=retry_max,
        max_batch_events=max_batch_events,
        max_batch_bytes=max_batch_bytes,
    )


def test_singles_until_the_server_advertises_batches(tmp_path: Path) -> None:
    """A service that does not know them never gets one."""
    script: list[Line] = [accepted(), accepted(outlay_batch=_OFFER), stored(8)]
    bench = Bench(tmp_path, script, batching="auto")
    bench.track(*range(10))

    bench.ship()

    assert [path for path, _ in bench.transport.posts] == [
        "/v0/events",
        "/v0/events",
        "/v0/events/batch",
    ]
    assert bench.counts == {"delivered": 10}


def test_never_means_never(tmp_path: Path) -> None:
    """Even where the server advertises them."""
    bench = Bench(tmp_path, [accepted(outlay_batch=_OFFER)] * 10, batching="never")
    bench.track(*range(10))

    bench.ship()

    assert {path for path, _ in bench.transport.posts} == {"/v0/events"}


def test_an_error_answer_advertises_batches_too(tmp_path: Path) -> None:
    """The first answer may be a 503."""
    script: list[Line] = [refused(503, outlay_batch=_OFFER), stored(10)]
    bench = Bench(tmp_path, script, batching="auto")
    bench.track(*range(10))

    bench.ship_for(10)

    assert bench.counts == {"delivered": 10}


def test_each_event_of_a_batch_meets_its_own_outcome(tmp_path: Path) -> None:
    """A half-delivered batch is normal."""
    failed = {1: (400, "bad"), 2: (422, "invalid_event_type"), 3: (500, "internal")}
    bench = _batches(tmp_path, [stored(5, failed), stored(1)])
    for number in range(5):
        bench.track(number, event_type=f"cost.{number}")

    bench.ship_for(60)

    assert bench.counts == {"delivered": 3, "dead": 1, "parked": 1}
    assert _batch_keys(bench.sent[1]) == ["key-3"]


def test_an_item_refused_for_the_credential_pauses_everything(tmp_path: Path) -> None:
    """A key may be revoked in the middle of a batch."""
    bench = _batches(tmp_path, [stored(2, {1: (401, "unauthorized")})], retry_max=60.0)
    bench.track(1, 2)

    assert bench.ship() == 60.0
    assert bench.counts == {"delivered": 1}


def test_a_batch_that_is_too_large_is_halved_until_it_fits(tmp_path: Path) -> None:
    """413 for the sum refuses no event."""

    def respond(path: str, body: bytes) -> TransportResponse:
        count = len(_batch_keys(body)) if path.endswith("batch") else 1
        return stored(count) if count <= 12 else refused(413)

    bench = _batches(tmp_path, [respond] * 50)
    bench.track(*range(100))

    bench.ship()

    assert bench.counts == {"delivered": 100}
    sizes = [len(_batch_keys(body)) for body in bench.sent]
    assert sizes[:4] == [100, 50, 25, 12]


def test_batches_that_were_halved_grow_again_after_a_while(tmp_path: Path) -> None:
    """A few large events must not make a thousand requests of each thousand events."""

    def respond(path: str, body: bytes) -> TransportResponse:
        return stored(len(_batch_keys(body))) if path.endswith("batch") else accepted()

    bench = _batches(tmp_path, [refused(413), *[respond] * 50])
    bench.track(*range(100))
    bench.ship()

    sizes: list[int] = []
    for first in (1000, 2000, 3000):
        bench.track(*range(first, first + 100))
        bench.ship()
        sizes.append(len(_batch_keys(bench.sent[-1])))
        bench.clock.advance(PAUSE_SECONDS)

    assert sizes == [50, 50, 100]


def test_an_event_too_large_for_any_batch_goes_alone_and_is_judged_alone(
    tmp_path: Path,
) -> None:
    """A batch of one that is refused for its size is not yet a verdict on the event."""
    bench = _batches(tmp_path, [refused(413), refused(413)])
    bench.track(1)

    bench.ship()

    assert [path for path, _ in bench.transport.posts] == [
        "/v0/events/batch",
        "/v0/events",
    ]
    assert bench.counts == {"dead": 1}


@pytest.mark.parametrize("status", [400, 404, 405, 501])
def test_a_server_that_refuses_batches_gets_singles_from_then_on(
    tmp_path: Path, status: int
) -> None:
    """And nothing is lost in the change."""
    bench = _batches(tmp_path, [refused(status)])
    bench.track(*range(5))

    bench.ship_for(60)

    assert [path for path, _ in bench.transport.posts] == ["/v0/events/batch"] + [
        "/v0/events"
    ] * 5
    assert bench.counts == {"delivered": 5}


def test_a_nonsense_answer_to_a_batch_delivers_nothing(tmp_path: Path) -> None:
    """A captive portal says 200 to everything."""
    bench = _batches(tmp_path, [TransportResponse(200, {}, b"<html>")])
    bench.track(*range(3))

    bench.ship()
    assert bench.counts == {}
    bench.ship_for(60)

    assert bench.counts == {"delivered": 3}


@pytest.mark.parametrize("status", [400, 402, 404, 405, 410, 421, 500])
def test_batches_come_back_after_a_fault_and_after_a_refusal(
    tmp_path: Path, status: int
) -> None:
    """One event that trips the server must not cost a week of slow shipping.

    Nor must one old server of many, during a rolling deploy.
    """
    bench = _batches(tmp_path, [refused(status)])
    bench.track(1, 2)
    bench.ship_for(60)

    bench.clock.advance(PAUSE_SECONDS)
    bench.track(3)  # its response, or the setting, allows batches again
    bench.ship_for(1)
    bench.transport.script(stored(2))
    bench.track(4, 5)
    bench.ship_for(1)

    assert bench.counts == {"delivered": 5}
    assert _batched(bench) == 2


def test_a_server_that_never_learns_batches_is_rarely_asked(tmp_path: Path) -> None:
    """The time without batches doubles up to an hour."""

    def respond(path: str, _: bytes) -> TransportResponse:
        return refused(404) if path.endswith("batch") else accepted()

    bench = _batches(tmp_path, [respond] * 10_000)
    for number in range(24 * 60):
        bench.track(number)
        bench.ship_for(60)

    assert bench.counts == {"delivered": 24 * 60}
    assert 24 <= _batched(bench) <= 32


def _batched(bench: Bench) -> int:
    return sum(path.endswith("/batch") for path, _ in bench.transport.posts)


def test_a_retried_batch_keeps_its_order(tmp_path: Path) -> None:
    """Oldest first, as `Job` promises, also the second time."""
    bench = _batches(tmp_path, [refused(503), stored(20)])
    bench.track(*range(20))

    bench.ship_for(10)

    assert bench.sent[1] == bench.sent[0]
    assert _batch_keys(bench.sent[1]) == [f"key-{number}" for number in range(20)]


def test_a_batch_is_bounded_in_bytes(tmp_path: Path) -> None:
    """Servers refuse large bodies, and memory is not endless."""
    bench = _batches(tmp_path, [stored(2)] * 2, max_batch_bytes=512 * 1024)
    for number in range(4):
        bench.journal.append(payload(number, padding=200_000))
        bench.tracked += 1

    bench.ship()

    assert all(len(body) <= 512 * 1024 for body in bench.sent)
    assert sum(len(_batch_keys(body)) for body in bench.sent) == 4


@pytest.mark.parametrize(
    ("batching", "window"),
    [("never", WINDOW_SINGLES), ("always", WINDOW_BATCHES * 50)],
)
def test_memory_holds_a_bounded_number_of_events(
    tmp_path: Path, batching: Batching, window: int
) -> None:
    """A backlog of millions costs disk, not memory."""

    def respond(path: str, body: bytes) -> TransportResponse:
        """Take every fourth event only, so that all others come back to be retried."""
        if not path.endswith("batch"):
            return accepted() if int(_key(body)[4:]) % 4 == 0 else refused(500)
        count = len(_batch_keys(body))
        return stored(count, {at: (500, "") for at in range(count) if at % 4})

    bench = Bench(
        tmp_path,
        itertools.repeat(respond, 100_000),
        batching=batching,
        max_batch_events=50,
    )
    bench.track(*range(1000))
    random.seed(1)  # backoff has jitter, and how much is held depends on it
    most = 0

    for _ in range(100):
        bench.ship_for(0.2)
        most = max(most, bench.planner.held_events)

    assert window / 2 < most <= window


def test_linger_waits_for_company_and_a_hurry_does_not(tmp_path: Path) -> None:
    """A thread that is woken for each event would cost more than the events."""
    bench = _batches(tmp_path, [stored(2)], linger=0.5)
    bench.track(1)

    lonely = bench.planner.plan(linger=True)
    bench.clock.advance(0.4)
    still = bench.planner.plan(linger=True)
    bench.track(2)
    bench.clock.advance(0.2)
    job = bench.planner.plan(linger=True)

    assert lonely == 0.5
    assert still == pytest.approx(0.1)
    assert isinstance(job, PlannedRequest)
    assert len(job.events) == 2


def test_a_full_batch_does_not_linger(tmp_path: Path) -> None:
    """It has all the company it can have."""
    bench = _batches(tmp_path, [stored(10)], linger=60.0, max_batch_events=10)
    bench.track(*range(10))

    assert isinstance(bench.planner.plan(linger=True), PlannedRequest)


# Everything at once.

_ANSWERS: Final = [
    accepted(),
    refused(400),
    refused(401),
    _UNMATCHED,
    refused(413),
    refused(404),
    refused(429),
    refused(500),
    refused(503),
    TransportResponse(200, {}, b"<html>"),
    _page(400),
    refused(302),
    _LOST,
    _UNREACHABLE,
]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    script=st.lists(st.sampled_from(_ANSWERS), max_size=30),
    batching=st.sampled_from(["never", "always"]),
    restart_after=st.integers(0, 4),
)
def test_whatever_the_server_says_every_event_has_one_outcome(
    tmp_path_factory: pytest.TempPathFactory,
    script: list[Line],
    batching: Batching,
    restart_after: int,
) -> None:
    """Conservation: after any script, restart and clock, the books balance.

    In the end the server is well again, and everything that may be sent is delivered.
    """
    journal_dir = tmp_path_factory.mktemp("journal")

    def sound(path: str, body: bytes) -> TransportResponse:
        batch = path.endswith("batch")
        return stored(len(_batch_keys(body))) if batch else accepted()

    bench = Bench(journal_dir, [*script, *[sound] * 200], batching=batching)
    bench.track(*range(8))
    for _ in range(restart_after):
        step = bench.plan()
        if isinstance(step, PlannedRequest):
            bench.perform(step)
    first = sum(bench.counts.values()) - bench.counts.get("parked", 0)
    bench.restart()
    for _ in range(40):
        bench.ship_for(HOUR / 4)
    bench.ship_for(3 * HOUR)

    assert first + sum(bench.counts.values()) == 8
    assert bench.pending == 0
    assert len(dead_letters(journal_dir)) <= 8
    bench.journal.close()
