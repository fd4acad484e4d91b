"""A runtime like AWS Lambda's, with a handler that tracks costs.

It reads one invocation from each line of its standard input, as JSON with ``number``
and ``id``. It writes the result of each to its standard output, and waits for the next.
"""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import outlay
from tests.integrations.customers import customer_of
from tests.support.events import EVENT_TYPE, amount_of


@outlay.integrations.aws_lambda.handler(
    customer=lambda event: customer_of(event["number"]),
    flush_timeout=float(sys.argv[1]),
)
def handle(event: dict[str, Any], _: object) -> str:
    """Track a cost, and perhaps fail."""
    outlay.current_operation().add(
        amount_of(event["number"]), event_type=EVENT_TYPE, provider="anthropic"
    )
    if event.get("fails"):
        raise LookupError
    return str(outlay.default_client().settings.journal_dir)


for line in sys.stdin:
    invocation = json.loads(line)
    context = SimpleNamespace(
        aws_request_id=invocation["id"], get_remaining_time_in_millis=lambda: 30_000
    )
    try:
        result = handle(invocation, context)
    except LookupError:
        result = "failed"
    sys.stdout.write(result + "\n")
    sys.stdout.flush()
