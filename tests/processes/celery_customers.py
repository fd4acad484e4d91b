"""Tasks that do not say whose costs theirs are; the messages they come in do.

``python -m tests.processes.celery_customers '{"cus_1": [1, 2, 3, 4, 5]}'`` sends five
for a customer: one alone, two in a group, two in a chain. Importing it configures
outlay.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from celery import chain, group  # type: ignore[import-untyped]

import outlay
from tests.processes.celery_application import app, client
from tests.support.events import EVENT_TYPE, amount_of

TRIED_AGAIN: Final = 6

outlay.instrument("celery")


@app.task(bind=True, name="spend")  # type: ignore[untyped-decorator]
def spend(task: Any, number: int) -> None:  # noqa: ANN401 - Celery has no types
    """Track cost ``number``, perhaps at the second attempt."""
    if number == TRIED_AGAIN and not task.request.retries:
        raise task.retry(countdown=0)
    client.track_cost(EVENT_TYPE, amount_of(number), operation_id=number)


if __name__ == "__main__":
    for customer, numbers in json.loads(sys.argv[1]).items():
        alone, *others = map(spend.si, numbers)
        with outlay.attribute(customer_id=customer or None):
            alone.apply_async()
            group(others[:2]).apply_async()
            chain(others[2:]).apply_async()
