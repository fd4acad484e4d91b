"""The queue of documents, which the API fills and the worker empties."""

import json
import os
import uuid
from pathlib import Path

from celery import Celery  # type: ignore[import-untyped]
from kombu.transport import filesystem

import outlay

QUEUE = Path(os.environ["QUEUE_FOLDER"])

outlay.instrument("celery")  # The customer of a request travels with its task.


class Channel(filesystem.Channel):
    """A queue in a folder, to which a message is added whole.

    Kombu's own writes in place: a worker may take the file before its content, and
    lose the task.
    """

    def _put(self, queue: str, payload: object, **_: object) -> None:  # type: ignore[override]  # another name
        name = f"{uuid.uuid4()}.{queue}"
        (QUEUE / f"{name}.part").write_text(json.dumps(payload))
        (QUEUE / f"{name}.part").rename(QUEUE / f"{name}.msg")


class Transport(filesystem.Transport):
    """Celery's broker, which needs no server."""

    Channel = Channel


celery = Celery("product")
celery.conf.update(
    broker_transport="jobs:Transport",
    broker_transport_options={
        "data_folder_in": str(QUEUE),
        "data_folder_out": str(QUEUE),
        "control_folder": str(QUEUE.with_name("control")),
        "polling_interval": 0.05,
    },
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
)
