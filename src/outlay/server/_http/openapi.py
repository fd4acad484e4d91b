"""The OpenAPI 3.1 document, made from the table of routes and its types.

Nothing is described twice: an endpoint's row, its docstring, and the types that it
reads and answers are all that this module looks at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from pydantic import BaseModel

from outlay.server._wire.problems import CATEGORIES, ErrorBody

if TYPE_CHECKING:
    from collections.abc import Iterable

    from outlay.server._http.router import Route

_REF: Final = "#/components/schemas/{}"
_ANYWHERE: Final = (500,)
_WITH_A_KEY: Final = (401, 403)

_SUCCESSES: Final = {
    200: "Done.",
    201: "Created.",
    202: "Accepted, and on disk.",
    204: "Done; there is no body.",
    207: "Some events were accepted, and some refused.",
}

_RESPONSE_HEADERS: Final = {
    "Accept-Encoding": "Codings of request bodies that are taken (RFC 7694): gzip.",
    "Outlay-Batch": "Path of the batch extension and the most events it takes.",
    "Outlay-Duplicate": "'true' if the key was received before; the first is kept.",
}


def document(endpoints: Iterable[Route], version: str) -> dict[str, Any]:
    """Return the OpenAPI document of ``endpoints``."""
    endpoints = list(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        operations = paths.setdefault(endpoint.path, {})
        operations[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "outlay reference server",
            "version": version,
            "description": "Takes cost events in, and answers what they come to.",
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(endpoints),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(endpoint),
        "summary": (endpoint.handler.__doc__ or "").strip(),
        "parameters": _parameters(endpoint),
        "responses": _responses(endpoint),
    }
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": _json(endpoint.body.__name__),
        }
    if endpoint.permission is not None:
        operation["security"] = [{"bearer": []}]
        operation["x-required-permission"] = endpoint.permission
    return operation


def _operation_id(endpoint: Route) -> str:
    """Return a unique name: the handler's, with the older path told apart."""
    name = getattr(endpoint.handler, "__name__", "operation")
    alias = "/costMetrics" in endpoint.path and "metric" not in name
    return f"{name}_metric" if alias else name


def _parameters(endpoint: Route) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    if endpoint.body is not None:
        parameters.append(
            {
                "name": "Content-Encoding",
                "in": "header",
                "description": "How the body is compressed; it counts unpacked.",
                "required": False,
                "schema": {"enum": ["gzip", "identity"]},
            }
        )
    if endpoint.path == "/v0/events/batch":
        parameters.append(
            {
                "name": "Prefer",
                "in": "header",
                "description": "return=minimal leaves the accepted events out of the "
                "answer (RFC 7240).",
                "required": False,
                "schema": {"type": "string"},
            }
        )
    if "{id}" in endpoint.path:
        parameters.append(
            {
                "name": "id",
                "in": "path",
                "required": True,
                "schema": {"type": "string"},
            }
        )
    if endpoint.query is not None:
        schema = endpoint.query.model_json_schema(ref_template=_REF.format("{model}"))
        required = schema.get("required", ())
        parameters += [
            {
                "name": name,
                "in": "query",
                "required": name in required,
                "schema": _in_query(field),
            }
            for name, field in schema["properties"].items()
        ]
    return parameters


def _in_query(field: dict[str, Any]) -> dict[str, Any]:
    """Return a parameter's schema without what a query cannot spell."""
    kept = {name: value for name, value in field.items() if name != "default"}
    if field.get("default") not in (None, [], {}):
        kept["default"] = field["default"]
    options = [one for one in kept.pop("anyOf", ()) if one != {"type": "null"}]
    return {**kept, **options[0]} if options else kept


def _responses(endpoint: Route) -> dict[str, Any]:
    successes = [endpoint.status, *endpoint.more_statuses]
    responses: dict[str, Any] = {
        str(status): _success(endpoint, status) for status in successes
    }
    errors = {*endpoint.errors, *_ANYWHERE}
    if endpoint.permission is not None:
        errors.update(_WITH_A_KEY)
    for status in sorted(errors):
        responses[str(status)] = {
            "description": CATEGORIES[status].replace("_", " ").capitalize() + ".",
            "content": _json(ErrorBody.__name__),
        }
    return responses


def _success(endpoint: Route, status: int) -> dict[str, Any]:
    response: dict[str, Any] = {"description": _SUCCESSES[status]}
    if endpoint.answer is not None:
        response["content"] = _json(endpoint.answer.__name__)
    if endpoint.path.startswith("/v0/events"):
        response["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in _RESPONSE_HEADERS.items()
        }
    return response


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(name)}}}


def _schemas(endpoints: list[Route]) -> dict[str, Any]:
    structs: list[type[msgspec.Struct]] = [ErrorBody]
    models: list[type[BaseModel]] = []
    for endpoint in endpoints:
        for kind in (endpoint.answer, endpoint.body):
            if kind is None:
                continue
            if issubclass(kind, BaseModel):
                models.append(kind)
            else:
                structs.append(kind)
    _, schemas = msgspec.json.schema_components(
        dict.fromkeys(structs), ref_template=_REF.format("{name}")
    )
    ref = _REF.format("{model}")
    for model in models:
        schema = model.model_json_schema(ref_template=ref)
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    for endpoint in endpoints:
        if endpoint.query is not None:
            schema = endpoint.query.model_json_schema(ref_template=ref)
            schemas.update(schema.get("$defs", {}))
    return schemas
