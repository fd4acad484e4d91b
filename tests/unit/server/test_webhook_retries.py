"""A receiver that stays away: how often and how long the server tries."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Final, cast

from outlay.server._records import Budget, BudgetPeriod, PassedThreshold, Webhook
from outlay.server._services.webhook_sender import SendResult
from outlay.server._services.webhooks import WebhookService
from outlay.server._storage.commit_thread import CommitThread
from tests.support.memory_store import MemoryStore, Tables

if TYPE_CHECKING:
    from outlay.server._services.webhook_sender import WebhookSender

START: Final = 1_767_268_800_000_000
SECOND: Final = 1_000_000
DAY: Final = 24 * 3600 * SECOND
DEADLINE: Final = 20  # seconds; only a hang takes that long


class Receiver:
    """Stands in for the sender. Every attempt fails, and moves no clock."""

    def __init__(self, response: SendResult) -> None:
        self.response = response
        self.times: list[int] = []
        self.now = START
        self.called = asyncio.Semaphore(0)

    async def send(self, webhook: Webhook, message_id: str, body: bytes) -> SendResult:
        """Note the time of an attempt."""
        del webhook, message_id, body
        self.times.append(self.now)
        self.called.release()
        return self.response


async def attempts(response: SendResult) -> tuple[list[int], Webhook]:
    """Return the times at which a message is sent, until no message waits."""
    store = MemoryStore(Tables(), dedupe_window=DAY)
    store.put_budget(
        Budget(
            *("b1", "org", "Acme", Decimal(1), "USD", BudgetPeriod.MONTH, "UTC"),
            *(None, {}, (80,), "r1", START, START, START),
        )
    )
    store.add_webhook(Webhook("w1", "org", "https://example.com", b"s", START))
    passed = PassedThreshold(
        *("org", "b1", "r1", START, 80, Decimal(1), START, "msg_1", "{}")
    )
    assert store.pass_thresholds([passed]) == 1

    receiver = Receiver(response)
    commits = CommitThread(store, lambda: receiver.now, max_waiting_events=10)
    commits.start()
    sender = cast("WebhookSender", receiver)
    service = WebhookService(store, commits, sender, lambda: receiver.now)
    running = asyncio.create_task(service.run())
    try:
        while True:
            await receiver.called.acquire()
            found = await _settled(store, len(receiver.times))
            with store.reading() as reader:
                if not reader.waiting_messages("org") or found.disabled_at is not None:
                    return receiver.times, found
            receiver.now = found.attempt_at
            service.wake()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await commits.stop()


async def _settled(store: MemoryStore, failures: int) -> Webhook:
    """Return the webhook once the outcome of its last attempt is stored."""
    while True:
        with store.reading() as reader:
            found = reader.webhook("org", "w1")
        assert found is not None
        if found.failures == failures:
            return found
        await asyncio.sleep(0)


def test_a_message_is_given_up_after_fifteen_attempts_in_one_to_two_days() -> None:
    """The waits grow fourfold to six hours, and half of each is random."""
    times, webhook = asyncio.run(
        asyncio.wait_for(attempts(SendResult("it responded with 500")), DEADLINE)
    )

    assert len(times) == 15
    waits = [(after - before) / SECOND for before, after in pairwise(times)]
    longest = [min(5 * 4**place, 6 * 3600) for place in range(14)]
    assert all(
        most / 2 <= wait <= most for wait, most in zip(waits, longest, strict=True)
    )
    assert DAY <= times[-1] - times[0] <= 2.1 * DAY
    assert (webhook.failures, webhook.disabled_at) == (15, None)


def test_a_receiver_can_ask_for_a_longer_wait_up_to_six_hours() -> None:
    """With ``Retry-After``, so that it is disabled before the message is given up."""
    response = SendResult("it responded with 503", retry_after="99999")
    times, webhook = asyncio.run(asyncio.wait_for(attempts(response), DEADLINE))

    waits = {after - before for before, after in pairwise(times)}
    assert waits == {6 * 3600 * SECOND}
    assert times[-1] - times[0] == 3 * DAY
    assert webhook.disabled_at == times[-1]


def test_a_receiver_that_is_gone_gets_one_attempt() -> None:
    """Status 410 says so."""
    times, webhook = asyncio.run(
        asyncio.wait_for(attempts(SendResult("410", is_gone=True)), DEADLINE)
    )
    assert times == [START]
    assert webhook.disabled_at == START


def test_old_secrets_sign_until_each_of_them_ends() -> None:
    """The current one comes first."""
    first = Webhook("w1", "org", "https://example.com", b"1", START)
    second = first.rotated(b"2", START, START + DAY)
    third = second.rotated(b"3", START + 1, START + 1 + DAY)

    assert third.secrets_at(START + DAY - 1) == (b"3", b"2", b"1")
    assert third.secrets_at(START + DAY) == (b"3", b"2")
    assert third.secrets_at(START + 1 + DAY) == (b"3",)
    assert b"1" in first.secrets_at(START)
    assert "b'" not in repr(third.old_secrets)
