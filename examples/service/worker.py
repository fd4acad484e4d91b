"""The worker of a small AI product, which reads documents.

It knows one line of outlay for the provider. The customer comes with each task.
"""

import os
import signal

import anthropic
from celery import Task  # type: ignore[import-untyped]
from jobs import QUEUE, celery  # type: ignore[import-not-found]

import outlay

outlay.instrument("anthropic", provider="anthropic")

reader = anthropic.Anthropic(
    api_key="k", base_url=f"{os.environ['PROVIDER_URL']}/anthropic", max_retries=0
)


@celery.task(name="read_document", bind=True)  # type: ignore[untyped-decorator]
def read_document(task: Task, user: str, text: str) -> None:
    """Read a document. A task that runs again has the same id, and counts once."""
    with outlay.attribute(feature="documents"):
        reader.messages.create(
            model="claude-sonnet-4-5",
            max_tokens=1000,
            messages=[{"role": "user", "content": f"Read: {text}"}],
            metadata={"user_id": user},
            extra_headers={"Idempotency-Key": task.request.id},
        )
    if text == "crash":
        crash_once()


def crash_once() -> None:
    """Kill this process, as the kernel does when memory runs out, but only once."""
    crashed = QUEUE.with_name("crashed")
    if not crashed.exists():
        crashed.touch()
        os.kill(os.getpid(), signal.SIGKILL)
