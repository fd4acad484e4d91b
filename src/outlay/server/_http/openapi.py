"""Build the OpenAPI 3.1 document from the table of routes.

It is built from each route's row, the handler's docstring, and the types of the bodies.
So nothing is described twice.
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
    "Accept-Encoding": "The supported encodings of request bodies (RFC 7694): gzip.",
    "Outlay-Batch": "The path of the batch extension, and the most events of a batch.",
    "Outlay-Unparks": "'true' if an event type has no metric yet. A client may "
    "probe it again soon.",
    "Outlay-Duplicate": "'true' if the key was received before. The first is kept.",
}


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """Return the OpenAPI document of ``routes``."""
    routes = list(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        operations = paths.setdefault(route.path, {})
        operations[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "outlay reference server",
            "version": version,
            "description": "Accepts cost events, and computes exact totals.",
        },
        "tags": [{"name": tag} for tag in dict.fromkeys(map(_tag, routes))],
        "paths": paths,
        "components": {
            "schemas": _schemas(routes),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "tags": [_tag(route)],
        "summary": (route.handler.__doc__ or "").strip(),
        "parameters": _parameters(route),
        "responses": _responses(route),
    }
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": _json(route.body.__name__),
        }
    if route.permission is not None:
        operation["security"] = [{"bearer": []}]
        if route.permission:
            operation["x-required-permission"] = route.permission
    if route.is_extension:
        operation["x-outlay-extension"] = True
    return operation


def _operation_id(route: Route) -> str:
    """Return a unique id: the handler's name, with a suffix for the older path."""
    name = getattr(route.handler, "__name__", "operation")
    alias = "/costMetrics" in route.path and "metric" not in name
    return f"{name}_metric" if alias else name


def _tag(route: Route) -> str:
    """Return the group of a route: the first name in its path after the version."""
    names = [name for name in route.path.split("/") if name not in {"", "v0"}]
    return names[0] if route.path.startswith("/v0/") else "server"


def _parameters(route: Route) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    if route.body is not None:
        parameters.append(
            {
                "name": "Content-Encoding",
                "in": "header",
                "description": "The body's compression. Limits apply to the "
                "decompressed body.",
                "required": False,
                "schema": {"enum": ["gzip", "identity"]},
            }
        )
    if route.path == "/v0/events/batch":
        parameters.append(
            {
                "name": "Prefer",
                "in": "header",
                "description": "return=minimal leaves the accepted events out of the "
                "response (RFC 7240).",
                "required": False,
                "schema": {"type": "string"},
            }
        )
    if "{id}" in route.path:
        parameters.append(
            {
                "name": "id",
                "in": "path",
                "required": True,
                "schema": {"type": "string"},
            }
        )
    if route.query is not None:
        schema = route.query.model_json_schema(ref_template=_REF.format("{model}"))
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
    """Return a parameter's schema without values that a query cannot have."""
    kept = {name: value for name, value in field.items() if name != "default"}
    if field.get("default") not in (None, [], {}):
        kept["default"] = field["default"]
    options = [one for one in kept.pop("anyOf", ()) if one != {"type": "null"}]
    return {**kept, **options[0]} if options else kept


def _responses(route: Route) -> dict[str, Any]:
    successes = [route.status, *route.more_statuses]
    responses: dict[str, Any] = {
        str(status): _success(route, status) for status in successes
    }
    errors = {*route.errors, *_ANYWHERE}
    if _names_organization(route):
        errors.add(404)  # the organization does not exist
    if route.permission is not None:
        errors.update(_WITH_A_KEY)
    for status in sorted(errors):
        responses[str(status)] = {
            "description": CATEGORIES[status].replace("_", " ").capitalize() + ".",
            "content": _json(ErrorBody.__name__),
        }
    return responses


def _names_organization(route: Route) -> bool:
    models = [model for model in (route.query, route.body) if model is not None]
    return any("merchant_id" in getattr(model, "model_fields", ()) for model in models)


def _success(route: Route, status: int) -> dict[str, Any]:
    response: dict[str, Any] = {"description": _SUCCESSES[status]}
    if route.response is not None:
        response["content"] = _json(route.response.__name__)
    if route.method == "POST" and route.path.startswith("/v0/events"):
        response["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in _RESPONSE_HEADERS.items()
        }
    return response


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(name)}}}


def _schemas(routes: list[Route]) -> dict[str, Any]:
    structs: list[type[msgspec.Struct]] = [ErrorBody]
    models: list[type[BaseModel]] = []
    for route in routes:
        for kind in (route.response, route.body):
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
    for route in routes:
        if route.query is not None:
            schema = route.query.model_json_schema(ref_template=ref)
            schemas.update(schema.get("$defs", {}))
    return schemas
