"""What the contract says about answers, as JSON Schemas.

Written from the published contract and from what the strictest official client, the
Node SDK, was seen to refuse; not from this server. Fields that are not listed are
allowed, as every official client ignores them.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

Schema: TypeAlias = dict[str, Any]

TEXT: Final[Schema] = {"type": "string", "minLength": 1}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
NUMBER: Final[Schema] = {"type": "number"}
NUMBER_OR_NULL: Final[Schema] = {"type": ["number", "null"]}
TEXTS_BY_NAME: Final[Schema] = {
    "type": "object",
    "additionalProperties": {"type": "string"},
}

# RFC 3339 with an offset: Node refuses a time without one.
INSTANT: Final[Schema] = {
    "type": "string",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$",
}
# Plain notation, without an exponent or trailing zeros.
DECIMAL_TEXT: Final[Schema] = {
    "type": "string",
    "pattern": r"^(0|[1-9]\d*)(\.\d*[1-9])?$",
}
EXTERNAL_ID: Final[Schema] = {
    "type": "string",
    "pattern": "^[a-zA-Z0-9_-]+$",
    "maxLength": 255,
}


def _constant(value: str) -> Schema:
    return {"const": value}


def _identifier(prefix: str) -> Schema:
    return {"type": "string", "pattern": f"^{prefix}_[a-zA-Z0-9]+$"}


def _list_of(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def _object(required: Schema, optional: Schema | None = None) -> Schema:
    """Return the schema of an object; absent fields are absent, and never null."""
    return {
        "type": "object",
        "required": sorted(required),
        "properties": {**required, **(optional or {})},
    }


EVENT: Final = _object(
    {
        "id": TEXT,
        "object": _constant("event"),
        "type": TEXT,
        "source": TEXT,
        "namespace": _identifier("org"),
        "timestamp": INSTANT,
        "idempotencyKey": TEXT,
    },
    {"subject": TEXT, "externalSubject": EXTERNAL_ID, "externalId": EXTERNAL_ID},
)

BATCH: Final = _object(
    {
        "object": _constant("batchEvents"),
        "successful": _list_of(EVENT),
        "failed": _list_of(
            _object(
                {
                    "index": COUNT,
                    "status": {"type": "integer", "minimum": 400, "maximum": 599},
                    "error": TEXT,
                    "message": TEXT,
                },
                {"code": TEXT, "idempotencyKey": TEXT},
            )
        ),
        "summary": _object({"total": COUNT, "successful": COUNT, "failed": COUNT}),
    }
)

COST: Final = _object(
    {
        "id": _identifier("cst"),
        "object": _constant("cost"),
        "type": _constant("metered"),
        "name": TEXT,
        "currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
        "unitCost": DECIMAL_TEXT,
        "productId": _identifier("prod"),
        "merchantId": _identifier("org"),
        "createdAt": INSTANT,
        "updatedAt": INSTANT,
    },
    {
        "unit": TEXT,
        "aggregation": {
            "enum": ["SUM", "COUNT", "AVG", "MIN", "MAX", "UNIQUE_COUNT", "LATEST"]
        },
        "eventType": TEXT,
        "valueProperty": TEXT,
        "groupBy": TEXTS_BY_NAME,
        "deletedAt": {"type": "null"},
    },
)

PRODUCT: Final = _object(
    {
        "id": _identifier("prod"),
        "object": _constant("product"),
        "name": TEXT,
        "description": {"type": "string"},
        "merchantId": _identifier("org"),
        "metadata": TEXTS_BY_NAME,
        "createdAt": INSTANT,
        "updatedAt": INSTANT,
    }
)

SUMMARY: Final = _object(
    {
        "id": _identifier("cst"),
        "object": _constant("cost"),
        "name": TEXT,
        "type": _constant("metered"),
        "currency": TEXT,
        "totalCost": NUMBER_OR_NULL,
        "totalQuantity": NUMBER_OR_NULL,
    },
    {
        "eventType": TEXT,
        "unit": TEXT,
        "groups": _list_of(
            _object({"dimensions": TEXTS_BY_NAME, "quantity": NUMBER, "cost": NUMBER})
        ),
        "timeSeries": _list_of(
            _object(
                {
                    "windowStart": INSTANT,
                    "windowEnd": INSTANT,
                    "quantity": NUMBER,
                    "cost": NUMBER,
                }
            )
        ),
    },
)


def _page_of(item: Schema) -> Schema:
    return _object(
        {
            "object": _constant("list"),
            "data": _list_of(item),
            "pagination": _object(
                {
                    "limit": {"type": "integer", "minimum": 1, "maximum": 100},
                    "offset": COUNT,
                    "total": COUNT,
                }
            ),
        }
    )


COSTS: Final = _page_of(COST)
PRODUCTS: Final = _page_of(PRODUCT)

_CODE: Final[Schema] = {"type": "string", "pattern": "^[A-Z][A-Z0-9_]*$"}

ERROR: Final = _object(
    {"message": TEXT, "error": {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"}},
    {
        "code": _CODE,
        "details": {"type": "object"},
        "reason": TEXT,
        "requiredPermissions": _list_of(TEXT),
    },
)

UNMATCHED: Final = {
    "allOf": [ERROR, _object({"error": _constant("invalid_event_type")})]
}

LACKING: Final = {
    "allOf": [
        ERROR,
        _object(
            {
                "reason": {"enum": ["no_permission", "insufficient_scope"]},
                "requiredPermissions": {**_list_of(TEXT), "minItems": 1},
            }
        ),
    ]
}

NOT_A_MEMBER: Final = {"allOf": [ERROR, _object({"reason": _constant("not_member")})]}

INVALID: Final = _object(
    {
        "message": TEXT,
        "error": _constant("validation_error"),
        "errors": {
            **_list_of(_object({"field": TEXT, "message": TEXT}, {"code": TEXT})),
            "minItems": 1,
        },
    }
)

ANYTHING: Final[Schema] = {"type": "object"}
"""For what the contract does not know, such as the description of the API itself."""

BILLABLE: Final = _object(
    {
        "object": _constant("billableMetric"),
        "id": _identifier("bm"),
        "name": TEXT,
        "description": {"type": "string"},
        "unit": TEXT,
        "merchantId": TEXT,
        "aggregation": TEXT,
        "productId": _identifier("prod"),
        "itemId": {"type": ["string", "null"]},  # required, and null without an item
        "createdAt": INSTANT,
        "updatedAt": INSTANT,
    },
    {
        "eventType": TEXT,
        "valueProperty": TEXT,
        "groupBy": TEXTS_BY_NAME,
        "eventFrom": INSTANT,
    },
)
BILLABLES: Final = _object(
    {
        "object": _constant("list"),
        "data": _list_of(BILLABLE),
        "pagination": _object({"limit": COUNT, "offset": COUNT, "total": COUNT}),
    }
)
METER: Final = _object(
    {
        "object": _constant("meter"),
        "billableMetricId": _identifier("bm"),
        "totalValue": NUMBER,
    },
    {
        "windowedValues": _list_of(
            _object({"windowStart": INSTANT, "windowEnd": INSTANT, "value": NUMBER})
        ),
        "groupedValues": _list_of(
            _object({"groupBy": TEXTS_BY_NAME, "value": NUMBER}, {"eventCount": COUNT})
        ),
        "groupCount": COUNT,
    },
)
METER_EVENTS: Final = _object(
    {
        "object": _constant("list"),
        "billableMetricId": _identifier("bm"),
        "events": _list_of(
            _object(
                {
                    "object": _constant("meterEvent"),
                    "id": TEXT,
                    "type": TEXT,
                    "source": TEXT,
                    "subject": {"type": "string"},
                    "time": INSTANT,
                    "idempotencyKey": TEXT,
                    "data": {"type": "object"},
                },
                {"externalId": EXTERNAL_ID, "externalSubject": EXTERNAL_ID},
            )
        ),
        "pagination": _object({"limit": COUNT, "offset": COUNT, "total": COUNT}),
    }
)
