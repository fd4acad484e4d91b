"""Tasks of Celery. ``python -m tests.integrations.celery_tasks`` sends them."""

from __future__ import annotations

from typing import Any

from celery import Celery, chain, group  # type: ignore[import-untyped]

import outlay
from tests.integrations.queue_tasks import TASKS, TryAgainError, belonging, folder, work

outlay.instrument("celery")

app = Celery("costs", broker="filesystem://")
app.conf.update(
    broker_transport_options={
        "data_folder_in": str(folder() / "queue"),
        "data_folder_out": str(folder() / "queue"),
        "control_folder": str(folder() / "control"),
        "polling_interval": 0.02,
    },
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_lost_wait=0.1,
)


@app.task(bind=True, name="spend")  # type: ignore[untyped-decorator]
def spend(task: Any, number: int) -> None:  # noqa: ANN401 - Celery has no types
    """Do the work, perhaps at the second attempt."""
    try:
        work(number)
    except TryAgainError as error:
        raise task.retry(countdown=0) from error


def _send(number: int) -> None:
    task = spend.si(number)
    if number % 2:
        task.apply_async()
    else:  # as Sentry and PostHog do, which hides the other headers
        task.apply_async(headers={"headers": {"sentry-trace": "1"}})


if __name__ == "__main__":
    for number in TASKS:
        with belonging(number):
            _send(number)
    with belonging(0):
        chain(spend.si(100), spend.si(105)).apply_async()
        group(spend.si(110), spend.si(115)).apply_async()
