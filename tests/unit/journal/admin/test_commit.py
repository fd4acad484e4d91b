"""Priced costs become events in one step, wherever a kill strikes."""

from __future__ import annotations

import functools
import shutil
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import pytest

from outlay._capture.pricing import PricedAmount
from outlay._capture.repricing import UnpricedEvent
from outlay._journal.admin import edit
from outlay._journal.admin.edit import PricedEvent
from outlay._journal.locks import Lock
from outlay._journal.segments import iter_unsettled
from outlay._model.events import decode_event
from outlay.errors import JournalError, JournalFullError
from tests.support.interrupts import killed_at
from tests.support.unpriced import client_in, pending, record, view_of, waiting

if TYPE_CHECKING:
    from pathlib import Path

NOW_MS: Final = 1_780_000_000_000
COSTS: Final = 8
CHARGE: Final = PricedAmount(Decimal("0.05"), "USD", "priced", {"list": "test"})


@pytest.fixture
def journal_dir(tmp_path: Path) -> Path:
    """Return a folder in which a process that has ended left unpriced costs."""
    folder = tmp_path / "journal"
    with client_in(folder) as client:
        for number in range(COSTS):
            record(client, number)
    return folder


def settle(journal_dir: Path, max_journal_bytes: int = 2**30) -> int:
    """Do what ``outlay reprice`` does."""
    view = view_of(journal_dir)
    edit.remove_settled_unpriced(view)
    priced = [
        PricedEvent(UnpricedEvent(line.cost).with_price(CHARGE), [line])
        for line in waiting(journal_dir)
    ]
    return edit.reprice(
        view, priced, now_ms=NOW_MS, max_journal_bytes=max_journal_bytes
    )


def operations(journal_dir: Path) -> list[str]:
    """Return the operations whose events a shipper can see."""
    segments = [
        bytearray(path.read_bytes())
        for writer in view_of(journal_dir).folder.writers()
        for path in writer.glob("*.seg")
    ]
    payloads = [
        each.payload for segment in segments for each in iter_unsettled(segment)
    ]
    return sorted(decode_event(each).data["operationId"] for each in payloads)


def test_priced_costs_are_pending_events_and_wait_no_more(journal_dir: Path) -> None:
    """Nothing is left to do but to ship them; their file is gone."""
    kept = {
        UnpricedEvent(line.cost).event.idempotency_key for line in waiting(journal_dir)
    }

    assert settle(journal_dir) == COSTS

    edit.remove_settled_unpriced(view_of(journal_dir))
    events = pending(journal_dir)
    assert waiting(journal_dir) == []
    assert kept == {event.idempotency_key for event in events}
    assert {event.data["amount"] for event in events} == {Decimal("0.05")}
    assert {event.timestamp for event in events} == {"2026-05-01T12:00:00.000Z"}
    assert [*view_of(journal_dir).folder.unpriced_path.iterdir()] == []


def test_twice_is_as_once(journal_dir: Path) -> None:
    """Who is not sure whether it was done does it again."""
    settle(journal_dir)

    assert settle(journal_dir) == 0
    assert len(pending(journal_dir)) == COSTS


def test_what_another_command_settled_meanwhile_is_left_out(journal_dir: Path) -> None:
    """Both had read the same costs before either began."""
    stale = [
        PricedEvent(UnpricedEvent(line.cost).with_price(CHARGE), [line])
        for line in waiting(journal_dir)
    ]
    settle(journal_dir)

    again = edit.reprice(
        view_of(journal_dir), stale, now_ms=NOW_MS, max_journal_bytes=2**30
    )
    assert again == 0
    assert len(pending(journal_dir)) == COSTS


def test_without_room_costs_stay_unpriced(journal_dir: Path) -> None:
    """They can wait for ever; the journal has a limit."""
    with pytest.raises(JournalFullError):
        settle(journal_dir, max_journal_bytes=16)

    assert len(waiting(journal_dir)) == COSTS
    assert pending(journal_dir) == []


def test_two_commands_do_not_work_at_once(journal_dir: Path) -> None:
    """The second is told to wait."""
    lock = Lock(view_of(journal_dir).folder.dead_path / "commands.lock")
    assert lock.acquire()
    try:
        with pytest.raises(JournalError, match="another command"):
            settle(journal_dir)
    finally:
        lock.close()

    assert settle(journal_dir) == COSTS


def test_the_file_of_a_living_process_stays(journal_dir: Path, tmp_path: Path) -> None:
    """It may write another cost at any moment."""
    with client_in(tmp_path / "journal") as client:
        record(client, 100)
        settle(journal_dir)
        edit.remove_settled_unpriced(view_of(journal_dir))
        record(client, 101)

        assert len(waiting(journal_dir)) == 1


def test_costs_given_up_are_read_by_nobody_and_left_for_people(
    journal_dir: Path,
) -> None:
    """It is a decision about money, and must be found again."""
    first, *others = waiting(journal_dir)

    assert edit.discard(view_of(journal_dir), [first]) == 1

    assert [line.cost for line in waiting(journal_dir)] == [
        line.cost for line in others
    ]
    assert b'"state":"discarded"' in first.path.read_bytes()


def test_half_a_line_is_reported_and_hides_no_other(journal_dir: Path) -> None:
    """A disk that was full may have left one."""
    (path,) = view_of(journal_dir).folder.unpriced_path.glob("*.jsonl")
    path.write_bytes(b'{"state":"waiting","rea\n' + path.read_bytes())
    problems: list[object] = []

    found = [*view_of(journal_dir).unpriced(problems.append)]

    assert len(found) == COSTS
    assert len(problems) == 1


STRIDE: Final = 67  # instructions, for each trial takes a process
WATCHED: Final = tuple(
    f"_journal/{name}.py"
    for name in ("admin/commit", "admin/edit", "marked_lines", "segments")
)


@pytest.mark.slow
def test_a_kill_at_any_instruction_neither_loses_nor_doubles(
    journal_dir: Path, tmp_path: Path
) -> None:
    """After the next command each cost is one event, however far the killed one came.

    Between the two, a process ships what is in the journal: what a shipper has seen is
    never put there again.
    """
    at, stride, stages = 0, STRIDE, set()
    while stride:
        copy = tmp_path / f"copy-{at}"
        shutil.copytree(journal_dir, copy)
        if not killed_at(functools.partial(settle, copy), at, *WATCHED):
            # Too far: the last instructions in shorter steps, for the last stages are
            # only a few of them.
            at, stride = at - 2 * stride, stride // 4
            shutil.rmtree(copy)
            continue
        shipped = operations(copy)
        left = len(waiting(copy))
        stages.add((len(shipped), left))
        take_away(copy)
        settle(copy)
        edit.remove_settled_unpriced(view_of(copy))

        assert sorted(shipped + operations(copy)) == [f"req_{n}" for n in range(COSTS)]
        assert waiting(copy) == []
        shutil.rmtree(copy)
        at += stride

    assert stages >= {(0, COSTS), (0, 0), (COSTS, 0)}
    assert any(0 < left < COSTS for _, left in stages)


def take_away(journal_dir: Path) -> None:
    """Do what a shipper does in the end with what it can see."""
    for writer in view_of(journal_dir).folder.writers():
        shutil.rmtree(writer)
