"""The description of the API is valid and complete."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from outlay.server._http.openapi import document
from outlay.server._http.routes import ROUTES

DOCUMENT: Final[dict[str, Any]] = json.loads(json.dumps(document(ROUTES, "0")))
OPERATIONS: Final[dict[str, dict[str, Any]]] = {
    f"{method.upper()} {path}": operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}


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
