"""Answers of a server, as the transport hands them on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from outlay.transport import TransportResponse

if TYPE_CHECKING:
    from collections.abc import Mapping


def accepted(**headers: str) -> TransportResponse:
    """Return the answer to an event that was taken."""
    return TransportResponse(202, _named(headers), b'{"object":"event"}')


def refused(
    status: int, error: str = "", message: str = "", **headers: str
) -> TransportResponse:
    """Return an answer with the contract's error body."""
    body = json.dumps({"message": message, "error": error}).encode()
    return TransportResponse(status, _named(headers), body)


def stored(
    count: int, failed: Mapping[int, tuple[int, str]] | None = None, duplicates: int = 0
) -> TransportResponse:
    """Return the answer to a batch.

    Args:
        count: how many events it had.
        failed: status and error by index.
        duplicates: how many the server knew already.
    """
    failures = [
        {"index": index, "status": status, "error": error, "message": f"no {index}"}
        for index, (status, error) in (failed or {}).items()
    ]
    summary = {
        "total": count,
        "successful": count - len(failures),
        "failed": len(failures),
        "duplicates": duplicates,
    }
    body = {"object": "batchEvents", "failed": failures, "summary": summary}
    return TransportResponse(207 if failures else 202, {}, json.dumps(body).encode())


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
