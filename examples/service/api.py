"""The API of a small AI product: it summarises now, and has documents read later.

It knows two lines of outlay for the framework, and one for the provider. Customers and
amounts are nowhere else.
"""

import os
from typing import Annotated

import openai
from fastapi import FastAPI, Header
from jobs import celery  # type: ignore[import-not-found]
from pydantic import BaseModel
from starlette.requests import HTTPConnection

import outlay
from outlay.integrations.fastapi import OutlayMiddleware

TOKENS = {
    "token-of-ada": "cus_ada",
    "token-of-bob": "cus_bob",
    "token-of-eve": "cus_eve",
}
# The stand-in's address is not the provider's own, so say who charges.
outlay.instrument("openai", provider="openai")

model = openai.OpenAI(
    api_key="k", base_url=f"{os.environ['PROVIDER_URL']}/openai/v1", max_retries=0
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
    celery.send_task(
        "read_document", (TOKENS[authorization], work.text), task_id=work.id
    )
    return {"id": work.id}
