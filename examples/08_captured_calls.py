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
    """Answer as api.openai.com would, so that this runs offline and without a key."""
    answer = {"id": f"chatcmpl-{next(numbers)}", "model": MODEL, "usage": USAGE}
    if json.loads(request.content).get("stream"):
        return httpx2.Response(
            200, headers=EVENTS, text=f"data: {json.dumps(answer)}\n\n"
        )
    choices = [{"index": 0, "finish_reason": "stop", "message": MESSAGE}]
    return httpx2.Response(200, json={**answer, "choices": choices})


@outlay.attribute(operation="summary")
def summarise(client: openai.OpenAI, text: str, *, stream: bool = False) -> None:
    """Ask the model; nothing here knows of costs."""
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": f"Summarise: {text}"}],
        stream=stream,
    )
    for _ in answer if isinstance(answer, openai.Stream) else ():
        pass


def main() -> None:
    """Serve two customers, and tell what they cost."""
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
