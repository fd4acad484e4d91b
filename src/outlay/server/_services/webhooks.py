"""Deliver messages to webhooks: at least once, one at a time for each webhook."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from outlay.server._errors import StoreUnavailableError
from outlay.server._records import Webhook
from outlay.server._services.webhook_signing import format_secret, new_secret
from outlay.server._storage.budget_store import Attempt
from outlay.server._wire.budget_models import (
    ProbeMessage,
    WebhookList,
    WebhookResponse,
    WebhookTestResponse,
)
from outlay.server._wire.problems import HttpProblem, not_found
from outlay.server._wire.response_models import encode, format_instant

if TYPE_CHECKING:
    from collections.abc import Callable

    from outlay.server._records import ApiKey, Delivery
    from outlay.server._services.webhook_sender import SendResult, WebhookSender
    from outlay.server._storage.commit_thread import CommitThread
    from outlay.server._storage.store import Store

log = logging.getLogger("outlay.server")

MOST_WEBHOOKS: Final = 20
"""The most webhooks of one organization."""

_SECOND: Final = 1_000_000
_CONCURRENT: Final = 8
_POLL_SECONDS: Final = 1.0
_CLAIM: Final = 30 * _SECOND  # longer than `ServerSettings.webhook_timeout`
_FIRST_WAIT: Final = 5.0  # seconds
_GROWTH: Final = 4.0
_LONGEST_WAIT: Final = 6 * 3600.0
_MOST_ATTEMPTS: Final = 15  # of one message: within one to two days
_DEAD: Final = 3 * 24 * 3600 * _SECOND  # failures for so long disable a webhook
_OVERLAP: Final = 24 * 3600 * _SECOND  # in which a replaced secret signs as well
_MOST_OLD_SECRETS: Final = 10  # so that the header stays far below 8 KiB
_TEST: Final = "webhook.test"


class WebhookService:
    """Stores webhooks, and delivers the messages that wait for them.

    Thread safety: the event loop's thread.

    Args:
        store: The store.
        commits: The thread that writes.
        sender: The sender of messages.
        now: The source of the time, in microseconds since 1970.

    Attributes:
        delivered: The number of delivered messages since the start.
        failed: The number of failed attempts since the start.
        given_up: The number of messages that were given up since the start.
    """

    def __init__(
        self,
        store: Store,
        commits: CommitThread,
        sender: WebhookSender,
        now: Callable[[], int],
    ) -> None:
        self._store = store
        self._commits = commits
        self._sender = sender
        self._now = now
        self._wake = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()
        self.delivered = 0
        self.failed = 0
        self.given_up = 0

    # -- webhooks

    async def add(self, key: ApiKey, url: str) -> WebhookResponse:
        """Store a webhook, and return it with its secret, which is not shown again.

        Raises:
            HttpProblem: 409, because there are too many webhooks.
        """
        with self._store.reading() as reader:
            count = len(reader.webhooks(key.namespace))
        if count >= MOST_WEBHOOKS:
            raise HttpProblem(
                409,
                f"there are {count} webhooks, which is the most; delete one first",
                code="TOO_MANY_WEBHOOKS",
            )
        now = self._now()
        webhook = Webhook(
            "whk_" + secrets.token_hex(12), key.namespace, url, new_secret(), now
        )
        await self._commits.run(lambda: self._store.add_webhook(webhook))
        response = _response(webhook, 0)
        response.secret = format_secret(webhook.secret)
        return response

    def list(self, key: ApiKey) -> WebhookList:
        """Return all webhooks with the states of their deliveries."""
        with self._store.reading() as reader:
            found = reader.webhooks(key.namespace)
            waiting = reader.waiting_messages(key.namespace)
        return WebhookList([_response(one, waiting.get(one.id, 0)) for one in found])

    async def delete(self, key: ApiKey, webhook_id: str) -> None:
        """Delete a webhook and the messages that wait for it.

        Raises:
            HttpProblem: 404, because there is no such webhook.
        """
        if not await self._commits.run(
            lambda: self._store.delete_webhook(key.namespace, webhook_id)
        ):
            raise not_found("webhook", webhook_id)

    async def rotate(self, key: ApiKey, webhook_id: str) -> WebhookResponse:
        """Return a webhook with a new secret. The old one signs for a day as well.

        Raises:
            HttpProblem: 404, because there is no such webhook, and 409, because too
                many old secrets still sign.
        """
        secret = new_secret()
        now = self._now()
        webhook = self._find(key, webhook_id)
        if len(webhook.secrets_at(now)) > _MOST_OLD_SECRETS:
            raise _too_many_secrets(webhook, now)
        await self._commits.run(
            lambda: self._store.rotate_secret(
                key.namespace, webhook_id, secret, now, now + _OVERLAP
            )
        )
        webhook = self._find(key, webhook_id)  # it may be deleted meanwhile
        with self._store.reading() as reader:
            waiting = reader.waiting_messages(key.namespace)
        response = _response(webhook, waiting.get(webhook_id, 0))
        response.secret = format_secret(secret)
        return response

    async def test(self, key: ApiKey, webhook_id: str) -> WebhookTestResponse:
        """Send a test message now, once. A success enables a disabled webhook.

        Raises:
            HttpProblem: 404, because there is no such webhook.
        """
        webhook = self._find(key, webhook_id)
        message_id = _message_id()
        message = ProbeMessage(
            _TEST, format_instant(self._now()), {"webhookId": webhook_id}
        )
        result = await self._sender.send(webhook, message_id, encode(message))
        if result.error is None:
            now = self._now()
            await self._commits.run(
                lambda: self._store.enable_webhook(key.namespace, webhook_id, now)
            )
            self.wake()
        return WebhookTestResponse(message_id, result.error is None, result.error)

    def _find(self, key: ApiKey, webhook_id: str) -> Webhook:
        with self._store.reading() as reader:
            webhook = reader.webhook(key.namespace, webhook_id)
        if webhook is None:
            raise not_found("webhook", webhook_id)
        return webhook

    # -- deliveries

    def wake(self) -> None:
        """Look for messages now."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver messages until the task is cancelled."""
        try:
            while True:
                self._wake.clear()
                with suppress(StoreUnavailableError):  # the next round claims them
                    await self._begin_deliveries()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_SECONDS):
                        await self._wake.wait()
        finally:
            for task in self._sending:
                task.cancel()

    async def _begin_deliveries(self) -> None:
        free = _CONCURRENT - len(self._sending)
        if free <= 0:
            return
        now = self._now()
        claimed = await self._commits.run(
            lambda: self._store.claim_deliveries(now, now + _CLAIM, free)
        )
        for delivery in claimed:
            task = asyncio.create_task(self._deliver(delivery))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _deliver(self, delivery: Delivery) -> None:
        webhook = delivery.webhook
        result = await self._sender.send(
            webhook, delivery.message_id, delivery.message.encode()
        )
        now = self._now()
        attempt = _attempt(delivery, result, now)
        if attempt.error is None:
            self.delivered += 1
        else:
            self.failed += 1
            self.given_up += attempt.gives_up
            log.warning(
                "a webhook failed: id=%s message=%s attempts=%d: %s%s",
                webhook.id,
                delivery.message_id,
                delivery.attempts + 1,
                attempt.error,
                "; it is disabled until a test succeeds" if attempt.disables else "",
            )
        with suppress(StoreUnavailableError):  # then the claim ends, and it is resent
            await self._commits.run(
                lambda: self._store.settle_attempt(delivery, attempt, now)
            )
        self.wake()  # the webhook's next message may be due


def _attempt(delivery: Delivery, result: SendResult, now: int) -> Attempt:
    """Return what follows from the outcome of an attempt."""
    if result.error is None:
        return Attempt(retry_at=now)
    failures = delivery.webhook.failures + 1
    wait = max(_wait(failures), _seconds(result.retry_after))
    failing_since = delivery.webhook.failing_since
    is_dead = failing_since is not None and now - failing_since >= _DEAD
    return Attempt(
        result.error,
        now + round(min(wait, _LONGEST_WAIT) * _SECOND),
        # A webhook that takes other messages may always refuse this one.
        gives_up=result.is_gone or delivery.attempts + 1 >= _MOST_ATTEMPTS,
        disables=result.is_gone or is_dead,
    )


def _wait(failures: int) -> float:
    """Return the seconds until the next attempt, after failures in a row.

    Half of it is random. So the webhooks of a receiver that comes back do not all call
    at the same moment.
    """
    longest = min(_FIRST_WAIT * math.pow(_GROWTH, min(failures - 1, 10)), _LONGEST_WAIT)
    return longest * random.uniform(0.5, 1)  # noqa: S311 - no secret


def _seconds(retry_after: str) -> float:
    return float(retry_after) if retry_after.isdecimal() else 0.0


def _message_id() -> str:
    return "msg_" + secrets.token_hex(16)


def _response(webhook: Webhook, waiting: int) -> WebhookResponse:
    status = "failing" if webhook.failures else "ok"
    if webhook.disabled_at is not None:
        status = "disabled"
    is_waiting = waiting and webhook.disabled_at is None
    return WebhookResponse(
        webhook.id,
        webhook.url,
        status,
        waiting,
        webhook.failures,
        format_instant(webhook.created_at),
        webhook.last_error or None,
        _instant(webhook.failing_since),
        _instant(webhook.delivered_at),
        _instant(webhook.attempt_at) if is_waiting and webhook.failures else None,
        _instant(webhook.disabled_at),
        _instant(max((one.until for one in webhook.old_secrets), default=None)),
    )


def _too_many_secrets(webhook: Webhook, now: int) -> HttpProblem:
    ends = min(one.until for one in webhook.old_secrets if now < one.until)
    return HttpProblem(
        409,
        f"{_MOST_OLD_SECRETS} old secrets of this webhook still sign; rotate again "
        f"after {format_instant(ends)}, when the first one ends",
        code="TOO_MANY_SECRETS",
    )


def _instant(at: int | None) -> str | None:
    return None if at is None else format_instant(at)
