"""A request, and the response that the contract has for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.contract.schemas import Schema


class Exchange(NamedTuple):
    """A request, and what the contract says about its response.

    Attributes:
        status: The status of the response.
        schema: The schema of the response's body. If None, it has no body.
        method: The request's method.
        path: The request's path, with names of identifiers to be filled in.
        body: The request's body. Bytes go out as they are.
        query: The request's query.
        headers: Headers that replace the usual ones.
    """

    status: int
    schema: Schema | None
    method: str
    path: str
    body: object = None
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
