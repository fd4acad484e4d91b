"""Requests about revenue, rates, customers and profitability.

The schema of profitability is written from the published contract. The others describe
additions of this server.
"""

from __future__ import annotations

from typing import Final

from tests.contract import schemas
from tests.contract.exchange import Exchange
from tests.contract.reference import JANUARY
from tests.contract.schemas import (
    COUNT,
    INSTANT,
    NUMBER_OR_NULL,
    TEXT,
    Schema,
)

_ANY_TEXT: Final[Schema] = {"type": "string"}
_TWO_DECIMALS: Final[Schema] = {"type": "string", "pattern": r"^-?\d+\.\d\d$"}
_EXACT: Final[Schema] = {"type": "string", "pattern": r"^-?(0|[1-9]\d*)(\.\d*[1-9])?$"}
_CODE: Final[Schema] = {"type": "string", "pattern": "^[A-Z]{3}$"}


def _object(**fields: Schema) -> Schema:
    return {"type": "object", "required": sorted(fields), "properties": fields}


def _list(item: Schema) -> Schema:
    return {"type": "array", "items": item}


_PERIOD: Final = _object(**{"from": INSTANT, "to": INSTANT})
_AMOUNTS: Final = {
    "netRevenue": _TWO_DECIMALS,
    "totalCost": _TWO_DECIMALS,
    "profit": _TWO_DECIMALS,
    "marginPct": NUMBER_OR_NULL,
    "netRevenueExact": _EXACT,
    "totalCostExact": _EXACT,
    "profitExact": _EXACT,
}
_TREND: Final[Schema] = {
    "anyOf": [
        {"type": "null"},
        _object(values=_list(_TWO_DECIMALS), periodChange=NUMBER_OR_NULL),
    ]
}
_RATE: Final = _object(
    **{"from": _CODE, "to": _CODE},
    rate=_EXACT,
    validFrom=INSTANT,
    source=TEXT,
)
PROFITABILITY: Final = _object(
    object={"const": "profitability_summary"},
    currency=_CODE,
    rows={
        **_list(
            _object(
                customerId=_ANY_TEXT,
                customerName=_ANY_TEXT,
                trend=_TREND,
                **_AMOUNTS,
            )
        ),
        "maxItems": 101,
    },
    warnings=_list(TEXT),
    period=_PERIOD,
    priorPeriod=_PERIOD,
    total=_object(**_AMOUNTS),
    priorTotal=_object(**_AMOUNTS),
    rates=_list(_RATE),
    pagination=_object(limit=COUNT, offset=COUNT, total=COUNT),
)
IMPORT: Final = _object(
    object={"const": "revenueImport"},
    importId=TEXT,
    isComplete={"type": "boolean"},
    nextPart=COUNT,
    added=COUNT,
    replaced=COUNT,
    unchanged=COUNT,
    replacements=_list(
        _object(
            key=TEXT,
            source=TEXT,
            customerId=TEXT,
            period=_PERIOD,
            amount=_EXACT,
            currency=_CODE,
            replacedAmount=_EXACT,
            replacedCurrency=_CODE,
            replacedCustomerId=TEXT,
            replacedPeriod=_PERIOD,
        )
    ),
    warnings=_list(TEXT),
)
_LINE: Final = _object(
    object={"const": "revenueLine"},
    key=TEXT,
    source=TEXT,
    customerId=TEXT,
    period=_PERIOD,
    amount=_EXACT,
    currency=_CODE,
    importId=TEXT,
    receivedAt=INSTANT,
    receivedBy=TEXT,
    isCurrent={"type": "boolean"},
)
_CUSTOMER: Final = _object(
    object={"const": "customer"},
    id=TEXT,
    name=TEXT,
    createdAt=INSTANT,
    updatedAt=INSTANT,
)


def _page_of(item: Schema) -> Schema:
    return _object(
        object={"const": "list"},
        data=_list(item),
        pagination=_object(limit=COUNT, offset=COUNT, total=COUNT),
    )


def _line(**overrides: object) -> dict[str, object]:
    return {
        "customerId": "cus_1",
        "period": "2026-01",
        "amount": "10.50",
        "currency": "USD",
        **overrides,
    }


def _put(path: str, status: int, schema: Schema, body: object) -> Exchange:
    return Exchange(status, schema, "PUT", path, body)


def _margins(status: int, schema: Schema, **query: str) -> Exchange:
    asked = {**JANUARY, **query}
    return Exchange(status, schema, "GET", "/v0/profitability", query=asked)


_RATES: Final = {
    "rates": [
        {
            "from": "EUR",
            "to": "USD",
            "rate": "1.0832",
            "validFrom": "2026-01-01",
            "source": "ECB",
        }
    ]
}
_PART: Final = {"importId": "{org}-parts", "lines": [_line(key="in_9")]}

REVENUE_EXCHANGES: Final = {
    "revenue": _put("/v0/revenue", 200, IMPORT, {"lines": [_line()]}),
    "revenue-replaced": _put(
        "/v0/revenue", 200, IMPORT, {"lines": [_line(amount=-1, customerId="cus_9")]}
    ),
    "revenue-part": _put("/v0/revenue", 200, IMPORT, {**_PART, "isLast": False}),
    "revenue-unexpected": _put("/v0/revenue", 409, schemas.ERROR, {**_PART, "part": 7}),
    "revenue-twice": _put(
        "/v0/revenue", 400, schemas.INVALID, {"lines": [_line(), _line()]}
    ),
    "revenue-invalid": _put(
        "/v0/revenue", 400, schemas.INVALID, {"lines": [_line(amount="1,50")]}
    ),
    "revenues": Exchange(200, _page_of(_LINE), "GET", "/v0/revenue", query=JANUARY),
    "rates": _put(
        "/v0/rates",
        200,
        _object(object={"const": "rateUpdate"}, stored=COUNT, unchanged=COUNT),
        _RATES,
    ),
    "rates-invalid": _put("/v0/rates", 400, schemas.INVALID, {"rates": [{}]}),
    "rates-read": Exchange(
        200, _object(object={"const": "list"}, data=_list(_RATE)), "GET", "/v0/rates"
    ),
    "customers": _put(
        "/v0/customers",
        200,
        _object(object={"const": "customerUpdate"}, stored=COUNT),
        {"customers": [{"id": "cus_1", "name": "Acme"}]},
    ),
    "customers-read": Exchange(200, _page_of(_CUSTOMER), "GET", "/v0/customers"),
    "customer": _put("/v0/customers/cus_2", 200, _CUSTOMER, {"name": "Globex"}),
    "customer-invalid": _put("/v0/customers/cus_2", 400, schemas.INVALID, {}),
    "customer-read": Exchange(200, _CUSTOMER, "GET", "/v0/customers/cus_2"),
    "customer-missing": Exchange(404, schemas.ERROR, "GET", "/v0/customers/cus_0"),
    "profitability": _margins(200, PROFITABILITY, currency="USD"),
    "profitability-page": _margins(
        200, PROFITABILITY, currency="USD", topN="1", bucketWidth="week", sort="worst"
    ),
    "profitability-foreign": _margins(
        403, schemas.NOT_A_MEMBER, merchantId="{foreign}"
    ),
    "profitability-backwards": _margins(
        400, schemas.INVALID, to="2025-01-01T00:00:00Z"
    ),
    "profitability-without-rate": _margins(400, schemas.INVALID, currency="CHF"),
}
