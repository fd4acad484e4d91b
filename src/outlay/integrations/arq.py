"""Send the customer along with arq's jobs: ``outlay.instrument("arq")``.

Call it in the programs that enqueue jobs and in the module with ``WorkerSettings``.
"""

from __future__ import annotations

import functools
import pickle
from contextlib import ExitStack
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import arq.connections
import arq.worker

from outlay.integrations._patches import Patches
from outlay.integrations._tasks import HEADER, message_headers, task_scope

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ("instrument", "uninstrument")

_NAME: Final = "arq"
_patches: Final = Patches()


def instrument() -> None:
    """Send the attribution along with each job, and run each job with it.

    It travels in the serialized job, beside arq's own fields. Workers without this
    ignore it. It stays there for retries. The id of a job is the operation id of its
    costs. A second call changes nothing.

    Thread safety: any thread.
    """
    _patches.apply(
        (arq.connections, "serialize_job", _sending),
        (arq.worker, "deserialize_job_raw", _receiving),
        (arq.worker.Worker, "run_job", _running),
    )


def uninstrument() -> None:
    """Undo `instrument`. Jobs that run already keep their customer."""
    _patches.undo()


class _RunningJob(NamedTuple):
    """The job that the running task works on, and the scopes that end with it."""

    job_id: str
    scopes: ExitStack


_running_job: Final[ContextVar[_RunningJob | None]] = ContextVar(
    "outlay_arq_job", default=None
)


def _sending(original: Callable[..., bytes]) -> Callable[..., bytes]:
    @functools.wraps(original)
    def serialize_job(*args: Any, serializer: Any = None, **kwargs: Any) -> bytes:  # noqa: ANN401 - of several versions of arq
        headers = message_headers(_NAME)
        serialize = serializer or pickle.dumps

        def with_headers(data: dict[str, Any]) -> bytes:
            return serialize({**data, **headers})

        return original(*args, serializer=with_headers, **kwargs)

    return serialize_job


def _receiving(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def deserialize_job_raw(raw: bytes, *, deserializer: Any = None) -> Any:  # noqa: ANN401 - as above
        deserialize = deserializer or pickle.loads
        running = _running_job.get()

        def and_begin(raw: bytes) -> Any:  # noqa: ANN401 - as above
            data = deserialize(raw)
            if running is not None:
                headers = {HEADER: data.get(HEADER)}
                running.scopes.enter_context(task_scope(_NAME, headers, running.job_id))
            return data

        return original(raw, deserializer=and_begin)

    return deserialize_job_raw


def _running(original: Callable[..., Awaitable[None]]) -> Any:  # noqa: ANN401 - as above
    @functools.wraps(original)
    async def run_job(worker: Any, job_id: str, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as above
        with ExitStack() as scopes:
            _running_job.set(_RunningJob(job_id, scopes))
            await original(worker, job_id, *args, **kwargs)

    return run_job
