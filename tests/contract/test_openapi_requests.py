"""The description of the API is true of the running server.

schemathesis makes thousands of requests as it collects these tests. So `conftest`
leaves this file out where slow tests are not wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
)

from outlay.server._http.router import BATCH_PATH
from tests.contract.reference import API_KEY, serving
from tests.contract.test_openapi import DOCUMENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay.server import BackgroundServer

# Rules between fields, and ids that must exist, are no
# part of a schema. So a request that fits the schema may be refused.
UNPROVABLE: Final[list[Any]] = [positive_data_acceptance]

api: Final = schemathesis.openapi.from_dict(DOCUMENT)


@api.auth()
class _Key:
    """Sends the key of the test's server."""

    def get(self, case: object, context: object) -> str:
        """Return the key."""
        del case, context
        return API_KEY

    def set(self, case: schemathesis.Case[Any], data: str, context: object) -> None:
        """Add the key to a request."""
        del context
        case.headers["Authorization"] = f"Bearer {data}"


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    """Return a server for all tests of this module."""
    with serving() as server:
        yield server


@pytest.mark.slow
@api.parametrize()
@settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=3,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_server_does_what_the_document_says(
    case: schemathesis.Case[Any], server: BackgroundServer
) -> None:
    """Statuses, bodies, headers and refusals, for requests that fit and do not fit."""
    excluded = [*UNPROVABLE]
    if case.path == BATCH_PATH:
        excluded.append(negative_data_rejection)  # it refuses each event alone, by 207
    case.call_and_validate(base_url=server.url, excluded_checks=excluded)
