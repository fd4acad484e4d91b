"""Define the bodies of requests and responses about erasures."""

from __future__ import annotations

from outlay.server._wire.request_models import RequestModel, Text
from outlay.server._wire.response_models import ResponseModel


class ErasureCreate(RequestModel):
    """The customer whose id is to be replaced."""

    customer: Text


class ErasureResponse(ResponseModel, tag_field="object", tag="erasure"):
    """A running erasure. It does not have the customer's id."""

    pseudonym: str
    started_at: str


class ErasureList(ResponseModel, tag_field="object", tag="list"):
    """The running erasures of the organization, oldest first."""

    data: list[ErasureResponse]
