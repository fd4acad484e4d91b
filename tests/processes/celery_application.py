"""A Celery application whose tasks track costs; its broker is a folder.

The client is configured before the worker forks its pool. ``python -m
tests.processes.celery_application 30`` puts tasks 1 to 30 into the queue.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Final

from celery import Celery  # type: ignore[import-untyped]

import outlay
from tests.support.events import track

FOLDER_VARIABLE: Final = "TEST_BROKER_FOLDER"
DEADLY: Final = frozenset({7, 14})
"""Tasks whose process is killed right after it has tracked; they are run again."""

_folder = Path(os.environ[FOLDER_VARIABLE])

app = Celery("costs", broker="filesystem://")
app.conf.update(
    broker_transport_options={
        "data_folder_in": str(_folder / "queue"),
        "data_folder_out": str(_folder / "queue"),
        "control_folder": str(_folder / "control"),
        "polling_interval": 0.02,
    },
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_lost_wait=0.1,
)

client = outlay.configure()


@app.task  # type: ignore[untyped-decorator]
def charge(number: int) -> None:
    """Track event ``number``; the process may not survive that."""
    track(client, number)
    if number in DEADLY and not (marker := _folder / f"died-{number}").exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    for number in range(1, int(sys.argv[1]) + 1):
        app.send_task(f"tests.processes.celery_application.{charge.__name__}", [number])
