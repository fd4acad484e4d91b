"""Send the customer along with RQ's jobs: ``outlay.instrument("rq")``.

Call it in the programs that enqueue jobs. Call it also in a module that workers load,
such as the one with the jobs.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from rq.job import Job
from rq.worker import Worker

from outlay.integrations._patches import Patches
from outlay.integrations._tasks import flush_before_exit, message_headers, task_scope

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("instrument", "uninstrument")

_NAME: Final = "rq"
_patches: Final = Patches()


def instrument() -> None:
    """Send the attribution along with each job, and run each job with it.

    It travels in the job's ``meta``, and stays there for retries. The id of a job is
    the operation id of its costs. A work-horse ships its events before it ends. A
    second call changes nothing.

    Thread safety: any thread.
    """
    runner = next(each for each in Worker.__mro__ if "perform_job" in vars(each))
    _patches.apply((Job, "create", _sending), (runner, "perform_job", _running))


def uninstrument() -> None:
    """Undo `instrument`. Jobs that run already keep their customer."""
    _patches.undo()


def _sending(original: Any) -> Any:  # noqa: ANN401 - a classmethod
    create = original.__func__

    @functools.wraps(create)
    def create_with_attribution(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        job = create(*args, **kwargs)
        # A new dict, because programs pass one dict to many jobs.
        job.meta = {**(job.meta or {}), **message_headers(_NAME)}
        return job

    return classmethod(create_with_attribution)


def _running(original: Callable[..., bool]) -> Callable[..., bool]:
    @functools.wraps(original)
    def perform_job(worker: Any, job: Any, *args: Any, **kwargs: Any) -> bool:  # noqa: ANN401 - of several versions of RQ
        try:
            with task_scope(_NAME, job.meta, job.id):
                return original(worker, job, *args, **kwargs)
        finally:
            if worker.is_horse:  # it ends with os._exit
                flush_before_exit()

    return perform_job
