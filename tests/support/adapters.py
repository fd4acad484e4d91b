"""A provider's API that answers from a script, under sessions of requests."""

from __future__ import annotations

import io
import json
from typing import Any

import requests
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse


class ScriptedAdapter(BaseAdapter):
    """Answers one after the other as it was told; the last one for ever."""

    def __init__(self, *answers: Any, **headers: str) -> None:  # noqa: ANN401 - JSON
        """Answer with JSON, bytes, or a pair of a status and one of these.

        Args:
            *answers: in their order.
            **headers: of every answer; ``_`` stands for ``-``.
        """
        super().__init__()
        self._answers = list(answers)
        self._headers = {name.replace("_", "-"): headers[name] for name in headers}
        self.requests: list[requests.PreparedRequest] = []

    def session(self) -> requests.Session:
        """Return a session that knows only this API."""
        session = requests.Session()
        session.mount("https://", self)
        return session

    def send(
        self, request: requests.PreparedRequest, *_args: object, **_options: object
    ) -> requests.Response:
        """Answer a request."""
        self.requests.append(request)
        answer = self._answers[0]
        if len(self._answers) > 1:
            del self._answers[0]
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        response = requests.Response()
        response.status_code = status
        response.headers.update(self._headers)
        response.request = request
        response.url = request.url or ""
        response.raw = HTTPResponse(io.BytesIO(content), preload_content=False)
        return response

    def close(self) -> None:
        """Do nothing."""
