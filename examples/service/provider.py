"""A stand-in for two AI providers, with their APIs' shapes and a ledger of its own.

It repeats its first response to a repeated ``Idempotency-Key``, and bills the request
once. The ledger knows nothing of outlay: it has its own prices.
"""

import json
import os
import random
import time
from decimal import Decimal
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

LEDGER = Path(os.environ["PROVIDER_LEDGER"])
PRICES = {  # dollars per million tokens: input, output
    "gpt-4o-2024-08-06": (Decimal("2.50"), Decimal(10)),
    "claude-sonnet-4-5-20250929": (Decimal(3), Decimal(15)),
}
billed: set[str] = set()


def usage_of(key: str, customer: str, model: str) -> tuple[int, int]:
    """Return the tokens that a request consumes, and bill them the first time."""
    dice = random.Random(key)  # noqa: S311 - the same request, the same tokens
    tokens = dice.randint(200, 4000), dice.randint(20, 900)
    if key not in billed:
        billed.add(key)
        prices = PRICES[model]
        amount = (tokens[0] * prices[0] + tokens[1] * prices[1]) / 1_000_000
        with LEDGER.open("a") as ledger:
            ledger.write(json.dumps({"customer": customer, "amount": str(amount)}))
            ledger.write("\n")
    return tokens


async def openai_responses(request: Request) -> JSONResponse:
    """Respond as OpenAI's ``POST /v1/responses`` does."""
    asked = await request.json()
    key, model = request.headers["idempotency-key"], "gpt-4o-2024-08-06"
    read, written = usage_of(key, asked["user"], model)
    message = {
        "id": f"msg_{key}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "A summary.", "annotations": []}],
    }
    usage = {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + written,
    }
    return JSONResponse(
        {
            "id": f"resp_{key}",
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
            "status": "completed",
            "output": [message],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": usage,
        }
    )


async def anthropic_messages(request: Request) -> JSONResponse:
    """Respond as Anthropic's ``POST /v1/messages`` does."""
    asked = await request.json()
    key, model = request.headers["idempotency-key"], "claude-sonnet-4-5-20250929"
    read, written = usage_of(key, asked["metadata"]["user_id"], model)
    return JSONResponse(
        {
            "id": f"msg_{key}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [{"type": "text", "text": "Three invoices."}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": read, "output_tokens": written},
        }
    )


app = Starlette(
    routes=[
        Route("/openai/v1/responses", openai_responses, methods=["POST"]),
        Route("/anthropic/v1/messages", anthropic_messages, methods=["POST"]),
    ]
)
