"""OpenAI's API as the README's programs meet it: offline, with one answer."""

from __future__ import annotations

from typing import Final

import httpx2

_ANSWER: Final = {
    "id": "resp_67cb32528d6881909eb2859a55e18a85",
    "object": "response",
    "model": "gpt-4o-2024-08-06",
    "status": "completed",
    "output": [],
    "usage": {
        "input_tokens": 1200,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 150,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 1350,
    },
}


def _answer(self: httpx2.HTTPTransport, request: httpx2.Request) -> httpx2.Response:
    assert isinstance(self, httpx2.HTTPTransport)
    assert request.url.host == "api.openai.com", request.url
    return httpx2.Response(200, json=_ANSWER)


httpx2.HTTPTransport.handle_request = _answer  # type: ignore[method-assign] # offline
