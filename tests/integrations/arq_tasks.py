"""Jobs of arq, and its worker's settings.

``python -m tests.integrations.arq_tasks`` enqueues the jobs.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from arq import Retry, create_pool
from arq.connections import RedisSettings

import outlay
from tests.integrations.queue_tasks import (
    SOCKET_VARIABLE,
    TASKS,
    TryAgainError,
    belonging,
    work,
)

outlay.instrument("arq")

_REDIS = RedisSettings(unix_socket_path=os.environ[SOCKET_VARIABLE])


async def spend(ctx: dict[str, Any], number: int) -> None:
    """Do the work, perhaps at the second attempt."""
    await asyncio.sleep(0)
    try:
        work(number)
    except TryAgainError as error:
        raise Retry(defer=ctx["job_try"] / 100) from error


class WorkerSettings:
    """The settings of the worker, as arq finds them."""

    functions = (spend,)
    redis_settings = _REDIS
    poll_delay = 0.05
    max_jobs = 8


async def _enqueue() -> None:
    async with await create_pool(_REDIS) as redis:
        for number in TASKS:
            with belonging(number):
                await redis.enqueue_job("spend", number)


if __name__ == "__main__":
    asyncio.run(_enqueue())
