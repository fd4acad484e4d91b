"""The unpriced store: whose costs are in it, and what a kill leaves of them."""

from __future__ import annotations

import shutil
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal

import pytest

from outlay._capture.pricing import PricedAmount
from outlay._capture.recorder import Recorder
from outlay._capture.repricing import UnpricedEvent
from outlay._journal.admin import edit
from outlay._journal.admin.edit import PricedEvent
from outlay._model.attribution import UNATTRIBUTED, Attribution
from outlay._model.clock import SystemClock
from outlay._model.events import CostEvent, decode_event
from tests.support.clock import HOUR, ManualClock
from tests.support.events import assert_conserved
from tests.support.interrupts import killed_at
from tests.support.transports import ScriptedTransport
from tests.support.unpriced import (
    OWNER,
    WHEN,
    client_in,
    observe,
    pending,
    view_of,
    waiting,
)

if TYPE_CHECKING:
    from pathlib import Path

    from outlay import Client, Stats

CHARGE: Final = PricedAmount(Decimal("0.05"), "USD", "manual", None)


def reprice(journal_dir: Path, now_ms: int | None = None) -> int:
    """Do what ``outlay reprice`` does."""
    view = view_of(journal_dir)
    edit.remove_settled_unpriced(view)
    priced = [
        PricedEvent(UnpricedEvent(line.cost).with_price(CHARGE), [line])
        for line in waiting(journal_dir)
    ]
    now_ms = SystemClock().now_ms() if now_ms is None else now_ms
    settled = edit.reprice(view, priced, now_ms=now_ms, max_journal_bytes=2**30)
    edit.remove_settled_unpriced(view)
    return settled


# Whose they are.


def test_an_unpriced_cost_of_nobody_waits_in_the_bucket(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As a priced one does."""
    with client_in(tmp_path, unattributed_customer_id="cus_nobody") as client:
        Recorder.for_client(client).record(observe(), UNATTRIBUTED, WHEN)

    (line,) = waiting(tmp_path)
    assert decode_event(bytes(line.cost.event)).subject == "cus_nobody"
    assert "no customer was given" in caplog.text


@pytest.mark.parametrize("policy", ["error", "drop"])
def test_an_unpriced_cost_of_nobody_is_dropped_where_nobody_may_pay(
    policy: Literal["error", "drop"], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The watched call did nothing wrong; and nothing may be re-priced later."""
    told: list[tuple[CostEvent, str]] = []
    with client_in(
        tmp_path,
        unattributed=policy,
        on_drop=lambda event, reason: told.append((event, reason)),
    ) as client:
        Recorder.for_client(client).record(observe(), UNATTRIBUTED, WHEN)
        stats = client.stats()

    assert (stats.unpriced, stats.dropped) == (0, {"unattributed": 1})
    assert_conserved(stats)
    assert [(event.data["operationId"], why) for event, why in told] == [
        ("req_0", "unattributed")
    ]
    assert "is kept until it has one" not in caplog.text
    assert not [*tmp_path.rglob("*.jsonl")]


def test_no_customer_id_is_on_disk_where_they_are_hashed(tmp_path: Path) -> None:
    """Neither while a cost waits, nor when it is an event; and its key stays."""
    address = "ada@example.com"
    owner = Attribution(customer_id=address)
    with client_in(tmp_path, hash_customer_ids="k" * 32) as client:
        Recorder.for_client(client).record(observe(1), owner, WHEN)
        Recorder.for_client(client).record(observe(2, amount=Decimal(1)), owner, WHEN)
        subject = client.subject_for(address)
    (line,) = waiting(tmp_path)
    reprice(tmp_path)

    assert {event.subject for event in pending(tmp_path)} == {subject}
    assert len({event.idempotency_key for event in pending(tmp_path)}) == 2
    assert UnpricedEvent(line.cost).event.idempotency_key in {
        event.idempotency_key for event in pending(tmp_path)
    }
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or address.encode() not in path.read_bytes()


# The price that comes by another door.


def seen_by_two_doors(client: Client) -> None:
    """Record a call of which the first door knew too little."""
    Recorder.for_client(client).record(observe(), OWNER, WHEN)
    Recorder.for_client(client).record(observe(amount=Decimal("0.05")), OWNER, WHEN)


def test_what_another_door_prices_waits_no_more(tmp_path: Path) -> None:
    """It is tracked once, and nothing is left to re-price."""
    with client_in(tmp_path) as client:
        seen_by_two_doors(client)
        assert client.stats().unpriced == 0

    assert waiting(tmp_path) == []
    assert len(pending(tmp_path)) == 1


def test_what_was_refused_waits_on_without_a_doubt(tmp_path: Path) -> None:
    """An event that breaks a rule was not tracked, so it cannot have been counted."""
    with client_in(tmp_path) as client:
        Recorder.for_client(client).record(observe(), OWNER, WHEN)
        with pytest.raises(Exception, match="amount"):
            Recorder.for_client(client).record(observe(amount=Decimal(-1)), OWNER, WHEN)

    (line,) = waiting(tmp_path)
    assert line.cost.state == "waiting"
    assert pending(tmp_path) == []


def test_what_a_command_settled_meanwhile_is_not_tracked_again(tmp_path: Path) -> None:
    """A day later the server would not know its key any more."""
    with client_in(tmp_path) as client:
        Recorder.for_client(client).record(observe(), OWNER, WHEN)
        reprice(tmp_path)
        for _ in range(2):
            Recorder.for_client(client).record(observe(amount=Decimal(1)), OWNER, WHEN)
        stats = client.stats()

    assert (stats.tracked, stats.unpriced) == (0, 0)
    assert [event.data["amount"] for event in pending(tmp_path)] == [Decimal("0.05")]


def test_in_memory_one_cost_is_not_taken_for_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Costs come and go in any order; the number that is lost in the end is true."""
    with client_in(tmp_path, durability="memory") as client:
        recorder = Recorder.for_client(client)
        for number in (0, 1):
            recorder.record(observe(number), OWNER, WHEN)
        recorder.record(observe(0, amount=Decimal(1)), OWNER, WHEN)
        recorder.record(observe(2), OWNER, WHEN)
        assert client.stats().unpriced == 2

    assert "2 unpriced costs are lost" in caplog.text


WATCHED: Final = (
    "_journal/unpriced_store.py",
    "_journal/marked_lines.py",
    "_capture/recorder.py",
    "_capture/recording/decide.py",
    "_capture/recording/hand_over.py",
    "outlay/_capture_sink.py",
)


class Server:
    """Takes events from whatever lies in a journal folder, and forgets their keys."""

    def __init__(self) -> None:
        self.taken = 0

    def ship(self, journal_dir: Path, clock: ManualClock) -> Stats:
        """Do what the next process does, at the time that the clock says."""
        transport = ScriptedTransport()
        with client_in(
            journal_dir,
            shipping="thread",
            batching="never",
            clock=clock,
            transport=lambda: transport,
        ) as client:
            assert client.flush(20).complete
            self.taken += len(transport.posts)
            return client.stats()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("later", "stride"), [(1.0, 37), (25.0, 13)], ids=["within", "after"]
)
def test_a_kill_at_any_instruction_of_a_withdrawal_counts_the_cost_once(
    later: float, stride: int, tmp_path: Path
) -> None:
    """Also after the window, when the server has forgotten the key.

    What may have been counted is quarantined then, for a person to decide: neither
    counted twice nor forgotten.
    """
    at, kept, ends = 0, False, set()
    while killed_at(lambda: withdraw(tmp_path / f"{at}"), at, *WATCHED):  # noqa: B023 - called at once
        journal_dir, server, clock = tmp_path / f"{at}", Server(), now()
        at += stride
        if not journal_dir.exists():
            continue
        sent = bool(pending(journal_dir))
        states = [line.cost.state for line in waiting(journal_dir)]
        kept = kept or bool(states)  # from here on, the cost must be somewhere
        if not kept:
            continue
        server.ship(journal_dir, clock)
        clock.step(later * HOUR)
        settled = reprice(journal_dir, clock.now_ms())
        quarantined = server.ship(journal_dir, clock).quarantined
        ends.add((sent, *states, settled, quarantined))

        if later < 23:  # the server knows the key still
            assert 1 <= server.taken <= 1 + (states == ["replacing"])
            assert quarantined == 0
        else:
            assert server.taken + (quarantined and not sent) == 1
        shutil.rmtree(journal_dir)

    doubt = int(later > 23)
    assert {
        (False, "waiting", 1, 0),
        (False, "replacing", 1, doubt),
        (True, 0, 0),
    } <= ends
    assert later < 23 or (True, "replacing", 1, doubt) in ends


def withdraw(journal_dir: Path) -> None:
    """Record a cost without a price, and then its price."""
    seen_by_two_doors(client_in(journal_dir))


def now() -> ManualClock:
    """Return a clock that says what the machine's does."""
    clock = ManualClock()
    clock.step((SystemClock().now_ms() - clock.now_ms()) / 1000)
    return clock
