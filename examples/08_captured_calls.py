"""Calls through OpenAI's own library, tracked for their customers without a line more.

You will see what each customer's calls cost at list price, one streamed among them.
"""

import json
from itertools import count

import httpx2
import openai

import outlay
from outlay.testing import recording

MODEL = "gpt-4o-2024-08-06"
USAGE = {"prompt_tokens": 1200, "completion_tokens": 150, "total_tokens": 1350}
MESSAGE = {"role": "assistant", "content": "It ends in June."}
EVENTS = {"content-type": "text/event-stream"}
numbers = count(1)


def stand_in(request: httpx2.Request) -> httpx2.Response:
    """Respond as api.openai.com does, so that this runs offline and without a key."""
    body = {"id": f"chatcmpl-{next(numbers)}", "model": MODEL, "usage": USAGE}
    if json.loads(request.content).get("stream"):
        return httpx2.Response(
            200, headers=EVENTS, text=f"data: {json.dumps(body)}\n\n"
        )
    choices = [{"index": 0, "finish_reason": "stop", "message": MESSAGE}]
    return httpx2.Response(200, json={**body, "choices": choices})


@outlay.attribute(operation="summary")
def summarise(client: openai.OpenAI, text: str, *, stream: bool = False) -> None:
    """Ask the model. Nothing here knows of costs."""
    response = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": f"Summarise: {text}"}],
        stream=stream,
    )
    for _ in response if isinstance(response, openai.Stream) else ():
        pass


def main() -> None:
    """Serve two customers, and print what they cost."""
    http = httpx2.Client(transport=httpx2.MockTransport(stand_in))
    client = openai.OpenAI(api_key="sk-none", http_client=http)
    outlay.instrument("openai")
    with recording() as costs, client:
        for customer in ("cus_amber", "cus_birch", "cus_birch"):
            with outlay.attribute(customer_id=customer):
                summarise(client, "the contract", stream=customer == "cus_amber")
        print(costs)
        print("cus_birch:", costs.total(customer="cus_birch"))


if __name__ == "__main__":
    main()
