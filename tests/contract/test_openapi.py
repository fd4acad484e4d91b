"""The description of the API is valid, complete, and true of the running server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
)

from outlay.server._http.openapi import document
from outlay.server._http.router import BATCH_PATH
from outlay.server._http.routes import ROUTES
from tests.contract.reference import API_KEY, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay.server import BackgroundServer

DOCUMENT: Final[dict[str, Any]] = json.loads(json.dumps(document(ROUTES, "0")))
OPERATIONS: Final[dict[str, dict[str, Any]]] = {
    f"{method.upper()} {path}": operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}

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


def test_the_document_follows_the_specification() -> None:
    """Generators of clients and of pages read it."""
    errors = [
        error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()
    ]

    assert errors == []


def test_every_route_is_described_once() -> None:
    """The document comes from the table of routes, and leaves none out."""
    assert sorted(OPERATIONS) == sorted(
        f"{route.method} {route.path}" for route in ROUTES
    )
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_has_what_readers_need(name: str) -> None:
    """A summary, a group, its errors, and the permission of its key."""
    operation = OPERATIONS[name]

    assert operation["summary"].endswith(".")
    [tag] = operation["tags"]
    assert {"name": tag} in DOCUMENT["tags"]
    if "security" in operation:
        assert {"401", "403", "500"} <= set(operation["responses"])
    for parameter in operation["parameters"]:
        assert "default" not in parameter["schema"] or not parameter["required"]


@pytest.mark.slow
@pytest.mark.timeout(120)  # some hundred requests for each of forty operations
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
