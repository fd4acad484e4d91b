"""What the contract says about a cost report, as a JSON Schema.

Written from the published contract, like its neighbours in ``schemas``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.contract.schemas import COUNT, INSTANT, NUMBER, NUMBER_OR_NULL, TEXT

if TYPE_CHECKING:
    from tests.contract.schemas import Schema

_BETWEEN: Final[Schema] = {
    "type": "object",
    "required": ["from", "to"],
    "properties": {"from": INSTANT, "to": INSTANT},
}
REPORT: Final[Schema] = {
    "type": "object",
    "required": [
        "object",
        "currency",
        "period",
        "groupBy",
        "totalCost",
        "totalQuantity",
        "groups",
        "timeSeries",
        "availableDimensions",
        "pagination",
    ],
    "properties": {
        "object": {"const": "cost_report"},
        "currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
        "period": _BETWEEN,
        "groupBy": TEXT,
        "totalCost": NUMBER,
        "totalQuantity": NUMBER,
        "groups": {
            "type": "array",
            "items": {
                "type": "object",
                "required": [
                    "key",
                    "label",
                    "totalCost",
                    "totalQuantity",
                    "percentOfTotal",
                    "isOther",
                ],
                "properties": {
                    "key": {"type": "string"},
                    "label": TEXT,
                    "totalCost": NUMBER,
                    "totalQuantity": NUMBER,
                    "percentOfTotal": {"type": "number", "minimum": 0, "maximum": 100},
                    "isOther": {"type": "boolean"},
                    "unit": TEXT,
                    "priorPeriod": {
                        "type": "object",
                        "required": ["cost", "changePercent"],
                        "properties": {"cost": NUMBER, "changePercent": NUMBER_OR_NULL},
                    },
                },
            },
        },
        "timeSeries": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["windowStart", "windowEnd", "groups"],
                "properties": {
                    "windowStart": INSTANT,
                    "windowEnd": INSTANT,
                    "groups": {"type": "object", "additionalProperties": NUMBER},
                },
            },
        },
        "availableDimensions": {"type": "array", "items": TEXT},
        "pagination": {
            "type": "object",
            "required": ["limit", "offset", "total"],
            "properties": {
                "limit": {"type": "integer", "minimum": 1, "maximum": 100},
                "offset": COUNT,
                "total": COUNT,
            },
        },
        "warnings": {"type": "array", "items": TEXT, "minItems": 1},
        "groupCount": COUNT,
        "emptyGroupCount": COUNT,
        "costRange": {"anyOf": [{"type": "null"}, _BETWEEN]},
    },
}
