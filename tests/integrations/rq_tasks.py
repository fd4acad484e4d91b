"""Jobs of RQ, and the settings of its worker: ``rq worker -c``.

``python -m tests.integrations.rq_tasks`` enqueues them.
"""

from __future__ import annotations

import os

from redis import Redis
from rq import Queue, Retry

import outlay
from tests.integrations.queue_tasks import SOCKET_VARIABLE, TASKS, belonging, work

outlay.instrument("rq")

if __name__ == "__main__":
    queue = Queue(connection=Redis(unix_socket_path=os.environ[SOCKET_VARIABLE]))
    meta = {"shared": True}
    for number in TASKS:
        with belonging(number):
            queue.enqueue(work, number, retry=Retry(max=2), meta=meta)
    assert meta == {"shared": True}
