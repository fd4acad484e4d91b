"""A small AI product: an API that summarises, and a worker that reads documents.

The product knows two lines of outlay for the API, one for the worker, and one for each
provider. Customers and amounts are nowhere else.
"""

import os
import signal
from pathlib import Path
from typing import Annotated

import anthropic
import openai
from celery import Celery, Task  # type: ignore[import-untyped]
from fastapi import FastAPI, Header
from pydantic import BaseModel
from starlette.requests import HTTPConnection

import outlay
from outlay.integrations.fastapi import OutlayMiddleware

TOKENS = {
    "token-of-ada": "cus_ada",
    "token-of-bob": "cus_bob",
    "token-of-eve": "cus_eve",
}
PROVIDER = os.environ["PROVIDER_URL"]
QUEUE = Path(os.environ["QUEUE_FOLDER"])

outlay.instrument("celery")
# The stand-in's address is not the provider's own, so say who charges.
outlay.instrument("openai", provider="openai")
outlay.instrument("anthropic", provider="anthropic")

model = openai.OpenAI(api_key="k", base_url=f"{PROVIDER}/openai/v1", max_retries=0)
reader = anthropic.Anthropic(
    api_key="k", base_url=f"{PROVIDER}/anthropic", max_retries=0
)


class Work(BaseModel):
    """What a customer sends. A repeated request has the same id."""

    id: str
    text: str


def customer(connection: HTTPConnection) -> str | None:
    """Return the customer whose token a request has."""
    return TOKENS.get(connection.headers.get("authorization", ""))


app = FastAPI()
app.add_middleware(OutlayMiddleware, customer=customer)


@app.post("/summaries")
def summarise(work: Work, authorization: Annotated[str, Header()]) -> dict[str, str]:
    """Summarise a text now."""
    with outlay.attribute(feature="summaries"):
        response = model.responses.create(
            model="gpt-4o",
            input=f"Summarise: {work.text}",
            user=TOKENS[authorization],
            extra_headers={"Idempotency-Key": work.id},
        )
    return {"summary": response.output_text}


@app.post("/documents", status_code=202)
def accept(work: Work, authorization: Annotated[str, Header()]) -> dict[str, str]:
    """Read a document later, in the worker."""
    read_document.apply_async((TOKENS[authorization], work.text), task_id=work.id)
    return {"id": work.id}


celery = Celery("product", broker="filesystem://")
celery.conf.update(
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


@celery.task(bind=True)  # type: ignore[untyped-decorator]
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
