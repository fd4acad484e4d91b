"""A worker process of the demo: an application that tracks what its operations cost.

Started as ``python -m outlay._cli.commands.demo.worker SEED JOB COUNT PAUSE``. It obeys one JSON
line each on standard input, and answers on standard output:

    {"run": [10, 20]}  track operations 10 to 19 of the job, and report each as soon as
                       `track_cost` has returned: {"index": 10, "operation": {…}}
    {"finish": true}   deliver what is left, report where all events are, and end:
                       {"finished": {…}}

The end of standard input means that the demo is gone: the worker ends, too.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import outlay
from outlay._cli.commands.demo.workload import Operation, operations

THREADS: Final = 4

_FINISH_SECONDS: Final = 10.0


def main(arguments: list[str]) -> None:
    """Obey until told to finish."""
    seed, job, count, pause = arguments
    todo = operations(int(seed), job, int(count))
    with ThreadPoolExecutor(THREADS) as threads:
        for line in sys.stdin:
            command = json.loads(line)
            if "finish" in command:
                threads.shutdown()
                report = outlay.close(_FINISH_SECONDS)
                _say({"finished": report.stats._asdict()})
                return
            start, end = command["run"]
            for thread in range(THREADS):
                indexes = range(start + thread, end, THREADS)
                threads.submit(_track, todo, indexes, float(pause))


def _track(todo: list[Operation], indexes: range, pause: float) -> None:
    never = threading.Event()
    for index in indexes:
        operation = todo[index]
        outlay.track_cost(
            operation.event_type,
            operation.amount,
            customer_id=operation.customer_id,
            operation_id=operation.operation_id,
            provider=operation.provider,
        )
        fields = {**operation._asdict(), "amount": str(operation.amount)}
        _say({"index": index, "operation": fields})
        never.wait(pause)


def _say(message: dict[str, Any]) -> None:
    # One write for a line, unbuffered: threads do not mix theirs, and what was said is
    # out even if the process is killed the next moment.
    os.write(sys.stdout.fileno(), json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
