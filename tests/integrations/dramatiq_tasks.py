"""Actors of Dramatiq. ``python -m tests.integrations.dramatiq_tasks`` sends to them."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from outlay.integrations.dramatiq import OutlayMiddleware
from tests.integrations.queue_tasks import SOCKET_VARIABLE, TASKS, belonging, work

broker = RedisBroker(  # type: ignore[no-untyped-call]
    url=f"unix://{os.environ[SOCKET_VARIABLE]}",
    # A killed worker's messages are given to others soon, and always looked for.
    heartbeat_timeout=1000,
    maintenance_chance=1_000_000,
)
broker.add_middleware(OutlayMiddleware())
dramatiq.set_broker(broker)


@dramatiq.actor(min_backoff=1, max_backoff=1, max_retries=3)
def spend(number: int) -> None:
    """Do the work."""
    work(number)


if __name__ == "__main__":
    for number in TASKS:
        with belonging(number):
            spend.send(number)
    with belonging(0):
        pipeline = dramatiq.pipeline(
            [
                spend.message(100),
                spend.message_with_options(args=(105,), pipe_ignore=True),
            ]
        )
        pipeline.run()  # type: ignore[no-untyped-call]
