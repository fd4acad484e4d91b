"""The recorder: every operation once, with its price, or kept until it has one."""

from __future__ import annotations

import functools
import gc
import logging
import os
import threading
import weakref
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import outlay
from outlay import InvalidEventError
from outlay._capture.observation import Observation
from outlay._capture.recorder import Recorder
from outlay._capture.repricing import UnpricedEvent
from outlay._model.attribution import Attribution, current_attribution
from outlay._model.events import decode_event
from tests.support.interrupts import Interrupts
from tests.support.unpriced import (
    BOOK,
    OWNER,
    WHEN,
    client_in,
    observe,
    pending,
    record,
    waiting,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from outlay import Client

CHAT: dict[str, Any] = {
    "provider": "openai",
    "event_type": "cost.ai.inference",
    "operation_id": "chatcmpl-1",
    "model": "gpt-4o-2024-08-06",
    "flavor": "chat",
    "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """Return a client that only keeps."""
    with client_in(tmp_path) as client:
        yield client


def test_a_priced_event_says_how_it_came_to_its_amount(
    client: Client, tmp_path: Path
) -> None:
    """A person who doubts a cost can work it out again."""
    owner = OWNER._replace(region="eu-west-1", dimensions={"feature": "summaries"})
    receipt = Recorder.for_client(client).record(Observation(**CHAT), owner, WHEN)

    (event,) = pending(tmp_path)
    assert receipt is not None
    assert receipt.idempotency_key == event.idempotency_key
    assert event.timestamp == "2026-05-01T12:00:00.000Z"
    assert event.subject == "cus_1"
    assert event.data == {
        "provider": "openai",
        "operation": "onboarding",
        "region": "eu-west-1",
        "provenance": "priced",
        "amount": Decimal("0.0035"),
        "operationId": "chatcmpl-1",
        "feature": "summaries",
        "model": "gpt-4o-2024-08-06",
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
        "currency": "USD",
        "price": {
            "list": "genai-prices",
            "version": event.data["price"]["version"],
            "model": "openai/gpt-4o",
        },
    }


def test_the_same_call_seen_by_three_is_tracked_once(
    client: Client, tmp_path: Path
) -> None:
    """A wrapper, a span and a callback see it."""
    for _ in range(3):
        Recorder.for_client(client).record(Observation(**CHAT), OWNER, WHEN)

    assert len(pending(tmp_path)) == 1


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"operation_id": "chatcmpl-2"}, id="operation"),
        pytest.param({"line": "search"}, id="line"),
        pytest.param({"provider": "azure"}, id="provider"),
        pytest.param({"event_type": "cost.ai.embeddings"}, id="type"),
        pytest.param({"operation_id": None}, id="nothing-to-tell-by"),
    ],
)
def test_what_differs_is_tracked_beside_it(
    client: Client, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Only what would have the same key is the same."""
    for fields in (CHAT, {**CHAT, **changes}):
        Recorder.for_client(client).record(Observation(**fields), OWNER, WHEN)

    assert len(pending(tmp_path)) == 2


def test_what_could_not_be_tracked_may_come_again(
    client: Client, tmp_path: Path
) -> None:
    """The first door may fail where the second knows better."""
    recorder = Recorder.for_client(client)
    with pytest.raises(InvalidEventError):
        recorder.record(Observation(**CHAT, data={"amount": 1}), OWNER, WHEN)

    recorder.record(Observation(**CHAT), OWNER, WHEN)

    assert len(pending(tmp_path)) == 1


def test_the_running_code_s_attribution_is_the_default(
    client: Client, tmp_path: Path
) -> None:
    """Doors that know no better leave it to the context."""
    token = current_attribution.set(Attribution(customer_id="cus_9"))
    try:
        Recorder.for_client(client).record(Observation(**CHAT))
    finally:
        current_attribution.reset(token)

    assert [event.subject for event in pending(tmp_path)] == ["cus_9"]


def test_a_cost_in_another_currency_has_an_event_type_of_its_own(
    client: Client, tmp_path: Path
) -> None:
    """A metric sums by type: it must never add euros to dollars."""
    recorder = Recorder.for_client(client)
    for currency in ("USD", "EUR"):
        seen = observe(amount=Decimal(5), currency=currency)
        recorder.record(msgspec.structs.replace(seen, line=currency), OWNER, WHEN)

    assert {(each.type, each.data["currency"]) for each in pending(tmp_path)} == {
        ("cost.enrichment", "USD"),
        ("cost.enrichment.eur", "EUR"),
    }


# Without a price.


def test_a_cost_without_a_price_is_kept_with_all_it_needs(
    client: Client, tmp_path: Path
) -> None:
    """It has the key that its event will have, and no amount that it has not."""
    seen = observe(usage={"call": 1}, region="eu")
    Recorder.for_client(client).record(seen, OWNER, WHEN)

    (line,) = waiting(tmp_path)
    event = decode_event(bytes(line.cost.event))
    assert (line.cost.reason, line.cost.currency) == ("unknown_provider", "USD")
    assert (event.subject, event.timestamp) == ("cus_1", "2026-05-01T12:00:00.000Z")
    assert "amount" not in event.data
    assert event.data["operationId"] == "req_0"
    assert seen == msgspec.json.decode(bytes(line.cost.observation), type=Observation)
    assert line.path.stat().st_mode & 0o777 == 0o600
    assert pending(tmp_path) == []
    assert client.stats().unpriced == 1


def test_a_cost_without_any_id_gets_one_when_it_is_kept(
    client: Client, tmp_path: Path
) -> None:
    """Priced twice, it counts once: both events have the same key."""
    for _ in range(2):
        record(client, operation_id=None)

    ids = [
        decode_event(bytes(line.cost.event)).data["operationId"]
        for line in waiting(tmp_path)
    ]
    assert len(set(ids)) == 2


def test_a_door_that_sees_more_of_the_same_call_settles_it(
    client: Client, tmp_path: Path
) -> None:
    """A closed stream has no usage, but the provider's callback may bring it."""
    recorder = Recorder.for_client(client)
    early = {**CHAT, "usage": {}, "is_complete": False}
    recorder.record(Observation(**early), OWNER, WHEN)
    assert client.stats().unpriced == 1

    recorder.record(Observation(**CHAT), OWNER, WHEN)
    recorder.record(Observation(**early), OWNER, WHEN)

    assert waiting(tmp_path) == []
    assert client.stats().unpriced == 0
    assert len(pending(tmp_path)) == 1


def test_a_price_that_is_missing_is_said_once_of_each_model(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says what to do; a thousand would hide it."""
    with caplog.at_level(logging.WARNING, "outlay"):
        for number in range(20):
            record(client, number, model="small" if number % 2 else "large")

    said = [each.getMessage() for each in caplog.records]
    assert len(said) == 2
    assert "acme large" in said[0]
    assert "outlay reprice" in said[0]


def test_past_the_limit_costs_are_dropped_and_counted(tmp_path: Path) -> None:
    """A price list that is missing for a month must not fill the disk."""
    dropped: list[tuple[str, str]] = []
    with client_in(
        tmp_path,
        max_unpriced_bytes=64 * 1024,
        on_drop=lambda event, reason: dropped.append((event.subject, reason)),
    ) as client:
        for number in range(200):
            record(client, number)
        stats = client.stats()

    size = sum(line.path.stat().st_size for line in waiting(tmp_path)[:1])
    assert 0 < stats.unpriced < 200
    assert stats.dropped == {"unpriced_full": 200 - stats.unpriced}
    assert stats.tracked == sum(stats.dropped.values())
    assert dropped == [("cus_1", "unpriced_full")] * (200 - stats.unpriced)
    assert size <= 64 * 1024


def test_without_a_disk_costs_are_kept_in_memory_and_their_loss_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The person who chose to lose them at the end must see how many."""
    with client_in(tmp_path, durability="memory") as client:
        record(client)
        assert client.stats().unpriced == 1

    assert [*tmp_path.iterdir()] == []
    assert "1 unpriced costs are lost" in caplog.text


def test_threads_keep_whole_lines(client: Client, tmp_path: Path) -> None:
    """Lines of two threads must not interleave."""

    def record_some(start: int) -> None:
        for number in range(start, start + 50):
            record(client, number)

    threads = [
        threading.Thread(target=record_some, args=(start,))
        for start in range(0, 400, 50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(waiting(tmp_path)) == 400


def test_a_forked_child_keeps_costs_in_a_file_of_its_own(
    client: Client, tmp_path: Path
) -> None:
    """Two processes that write to one file would mix their lines."""
    record(client, 1)
    child = os.fork()
    if child == 0:
        try:
            record(client, 2)
            os._exit(client.stats().unpriced)
        finally:
            os._exit(99)
    _, status = os.waitpid(child, 0)
    record(client, 3)

    assert os.waitstatus_to_exitcode(status) == 1
    assert client.stats().unpriced == 2
    assert len(waiting(tmp_path)) == 3
    assert len({line.path for line in waiting(tmp_path)}) == 2


def test_a_finaliser_may_record_in_the_midst_of_a_record(
    client: Client, tmp_path: Path
) -> None:
    """The garbage collector ends streams wherever it likes; nothing may hang then."""
    watched = (
        "_journal/unpriced_store.py",
        "_capture/recorder.py",
        "outlay/_capture_sink.py",
        *(
            f"_capture/recording/{name}.py"
            for name in ("attribute", "decide", "hand_over")
        ),
    )
    at, struck = 0, True
    while struck:
        strike = functools.partial(record, client, 100_000 + at)
        interrupts = Interrupts(strike, at, *watched)
        with interrupts.watching():
            record(client, at)
        struck = interrupts.struck
        at += 29

    lines = waiting(tmp_path)
    kept = [decode_event(bytes(line.cost.event)).data["operationId"] for line in lines]
    assert len(kept) == len(set(kept)) == 2 * (at // 29) - 1


def test_a_recorder_does_not_keep_its_client_alive(tmp_path: Path) -> None:
    """Clients come and go, in tests above all."""
    client = client_in(tmp_path)
    record(client)
    client.close()
    gone = weakref.ref(client)
    del client
    gc.collect()

    assert gone() is None


def test_without_a_client_the_default_one_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be replaced at any time: each use asks for it."""
    monkeypatch.setenv("OUTLAY_SHIPPING", "none")
    for name in ("one", "two"):
        outlay.configure(journal_dir=tmp_path / name)
        Recorder.for_client().record(Observation(**CHAT), OWNER, WHEN)
    outlay.close()

    assert [len(pending(tmp_path / name)) for name in ("one", "two")] == [1, 1]


def test_one_s_own_book_is_asked_first(tmp_path: Path) -> None:
    """The setting names it; nothing else is needed."""
    book = tmp_path / "prices.toml"
    book.write_text(BOOK)
    with client_in(tmp_path / "journal", price_book=book) as client:
        record(client)
        later = datetime(2026, 7, 1, tzinfo=UTC)
        Recorder.for_client(client).record(observe(1), OWNER, later)

    amounts = [event.data["amount"] for event in pending(tmp_path / "journal")]
    assert amounts == [Decimal("0.05"), Decimal(99)]


def test_quantities_of_an_unpriced_cost_keep_every_digit(
    client: Client, tmp_path: Path
) -> None:
    """They wait as text on disk, and must not come back as floats or words."""
    second = Decimal("12.345678901234567890123")
    record(client, usage={"second": second})

    (line,) = waiting(tmp_path)
    assert UnpricedEvent(line.cost).observation.usage == {"second": second}


def test_a_cost_that_is_told_later_is_kept_until_then(
    client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither zero nor a guess, and the log asks for no price."""
    with caplog.at_level(logging.WARNING, "outlay"):
        record(client, price_pending=True)
        record(client, price_pending=True)

    (line,) = waiting(tmp_path)
    assert line.cost.reason == "pending"
    assert caplog.records == []

    record(client, amount=Decimal("0.0079"))

    (event,) = pending(tmp_path)
    assert event.data["amount"] == Decimal("0.0079")
    assert waiting(tmp_path) == []


def test_a_cost_that_is_told_later_belongs_to_whoever_caused_it(
    client: Client, tmp_path: Path
) -> None:
    """The reader may run for another customer. A loop that polls runs for none."""
    recorder = Recorder.for_client(client)
    record(client, 0, price_pending=True)
    record(client, 1, price_pending=True)

    recorder.record(observe(0, amount=Decimal(1)))
    with outlay.attribute(customer_id="cus_2"):
        recorder.record(observe(1, amount=Decimal(1)))

    assert [event.subject for event in pending(tmp_path)] == ["cus_1"] * 2


@pytest.mark.parametrize("overrides", [True, False])
def test_only_a_final_price_holds_before_the_provider_says_its_own(
    tmp_path: Path, *, overrides: bool
) -> None:
    """Any other would be a guess that looks like a fact."""
    book = tmp_path / "book.toml"
    override = "override_reported = true\n" if overrides else ""
    book.write_text(BOOK.replace("call = 0.05\n", f"call = 0.05\n{override}"))
    journal = tmp_path / "journal"
    with client_in(journal, price_book=book) as client:
        record(client, price_pending=True)

    assert len(pending(journal)) == overrides
    assert len(waiting(journal)) == (not overrides)


def test_what_is_told_later_is_kept_in_whole_until_it_has_a_price(
    client: Client, tmp_path: Path
) -> None:
    """Else the price list that comes one day would find nothing to price."""
    record(client, price_pending=True)
    record(client, usage={"page": 3})
    record(client, price_pending=True)
    record(client, usage={"page": 3})

    (line,) = waiting(tmp_path)
    assert line.cost.reason == "unknown_provider"
    assert UnpricedEvent(line.cost).observation.usage == {"page": 3}
    assert client.stats().unpriced == 1

    record(client, amount=Decimal(1))

    assert waiting(tmp_path) == []
    assert len(pending(tmp_path)) == 1


def test_what_is_told_later_costs_what_it_did_when_it_began(
    tmp_path: Path,
) -> None:
    """A message of November belongs to November, whenever its price is looked up."""
    book = tmp_path / "book.toml"
    book.write_text(BOOK)
    journal = tmp_path / "journal"
    with client_in(journal, price_book=book) as client:
        record(client, price_pending=True)  # in May; the price has changed since
        Recorder.for_client(client).record(observe())

    (event,) = pending(journal)
    assert event.data["amount"] == Decimal("0.05")
    assert event.timestamp == "2026-05-01T12:00:00.000Z"
