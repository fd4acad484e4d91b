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
EXACT: Final[Schema] = {"type": "string", "pattern": r"^-?(0|[1-9]\d*)(\.\d*[1-9])?$"}
_CODE: Final[Schema] = {"type": "string", "pattern": "^[A-Z]{3}$"}


def make_object(**fields: Schema) -> Schema:
    """Return the schema of an object that has all of the fields."""
    return {"type": "object", "required": sorted(fields), "properties": fields}


def make_list(item: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": item}


_PERIOD: Final = make_object(**{"from": INSTANT, "to": INSTANT})
_AMOUNTS: Final = {
    "netRevenue": _TWO_DECIMALS,
    "totalCost": _TWO_DECIMALS,
    "profit": _TWO_DECIMALS,
    "marginPct": NUMBER_OR_NULL,
    "netRevenueExact": EXACT,
    "totalCostExact": EXACT,
    "profitExact": EXACT,
}
_TREND: Final[Schema] = {
    "anyOf": [
        {"type": "null"},
        make_object(values=make_list(_TWO_DECIMALS), periodChange=NUMBER_OR_NULL),
    ]
}
_RATE: Final = make_object(
    **{"from": _CODE, "to": _CODE},
    rate=EXACT,
    validFrom=INSTANT,
    source=TEXT,
)
PROFITABILITY: Final = make_object(
    object={"const": "profitability_summary"},
    currency=_CODE,
    rows={
        **make_list(
            make_object(
                customerId=_ANY_TEXT,
                customerName=_ANY_TEXT,
                trend=_TREND,
                **_AMOUNTS,
            )
        ),
        "maxItems": 101,
    },
    warnings=make_list(TEXT),
    period=_PERIOD,
    priorPeriod=_PERIOD,
    total=make_object(**_AMOUNTS),
    priorTotal=make_object(**_AMOUNTS),
    rates=make_list(_RATE),
    pagination=make_object(limit=COUNT, offset=COUNT, total=COUNT),
)
IMPORT: Final = make_object(
    object={"const": "revenueImport"},
    importId=TEXT,
    isComplete={"type": "boolean"},
    nextPart=COUNT,
    added=COUNT,
    replaced=COUNT,
    unchanged=COUNT,
    replacements=make_list(
        make_object(
            key=TEXT,
            source=TEXT,
            customerId=TEXT,
            period=_PERIOD,
            amount=EXACT,
            currency=_CODE,
            replacedAmount=EXACT,
            replacedCurrency=_CODE,
            replacedCustomerId=TEXT,
            replacedPeriod=_PERIOD,
        )
    ),
    warnings=make_list(TEXT),
)
_LINE: Final = make_object(
    object={"const": "revenueLine"},
    key=TEXT,
    source=TEXT,
    customerId=TEXT,
    period=_PERIOD,
    amount=EXACT,
    currency=_CODE,
    importId=TEXT,
    receivedAt=INSTANT,
    receivedBy=TEXT,
    isCurrent={"type": "boolean"},
)
_CUSTOMER: Final = make_object(
    object={"const": "customer"},
    id=TEXT,
    name=TEXT,
    createdAt=INSTANT,
    updatedAt=INSTANT,
)


def _page_of(item: Schema) -> Schema:
    return make_object(
        object={"const": "list"},
        data=make_list(item),
        pagination=make_object(limit=COUNT, offset=COUNT, total=COUNT),
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


RATES: Final = {
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
        make_object(object={"const": "rateUpdate"}, stored=COUNT, unchanged=COUNT),
        RATES,
    ),
    "rates-invalid": _put("/v0/rates", 400, schemas.INVALID, {"rates": [{}]}),
    "rates-read": Exchange(
        200,
        make_object(object={"const": "list"}, data=make_list(_RATE)),
        "GET",
        "/v0/rates",
    ),
    "customers": _put(
        "/v0/customers",
        200,
        make_object(object={"const": "customerUpdate"}, stored=COUNT),
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
