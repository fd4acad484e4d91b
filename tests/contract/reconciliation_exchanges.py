"""Requests about saved reconciliations: additions of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.contract import schemas
from tests.contract.exchange import Exchange
from tests.contract.schemas import INSTANT, TEXT, Schema

if TYPE_CHECKING:
    import httpx

_PATH: Final = "/v0/reconciliations"
_BODY: Final = {
    "invoiceId": "INV-1",
    "provider": "openai",
    "currency": "USD",
    "first": "2026-02-01",
    "last": "2026-02-28",
}
_DONE: Final = {
    "matches": ["0123456789abcdef" * 2],
    "totals": {
        "bill": "2.5",
        "tracked": "2",
        "reconciled": "1",
        "charges": 3,
        "reconciledCharges": 2,
    },
}


def _reconciliation(**more: Schema) -> Schema:
    fields = {
        "object": {"const": "reconciliation"},
        "id": {"type": "string", "pattern": "^rec_[0-9a-f]+$"},
        "invoiceId": TEXT,
        "provider": TEXT,
        "currency": TEXT,
        "timezone": TEXT,
        "period": {"enum": ["day", "month"]},
        "first": {"type": "string", "format": "date"},
        "last": {"type": "string", "format": "date"},
        "asOf": INSTANT,
        "savedBy": TEXT,
        **more,
    }
    return {"type": "object", "required": sorted(fields), "properties": fields}


_BEGUN: Final = _reconciliation()
_SAVED: Final = _reconciliation(
    savedAt=INSTANT,
    totals={"const": _DONE["totals"]},
)
_WITHDRAWN: Final = _reconciliation(
    savedAt=INSTANT,
    withdrawal={
        "type": "object",
        "required": ["withdrawnAt", "withdrawnBy", "reason"],
        "properties": {"withdrawnAt": INSTANT, "withdrawnBy": TEXT, "reason": TEXT},
    },
)


def _begin(status: int, schema: Schema, **fields: object) -> Exchange:
    return Exchange(status, schema, "POST", _PATH, {**_BODY, **fields})


def _add(status: int, schema: Schema, name: str, **fields: object) -> Exchange:
    return Exchange(status, schema, "PUT", f"{_PATH}/{name}", {**_DONE, **fields})


def _withdraw(status: int, schema: Schema, name: str, **fields: object) -> Exchange:
    return Exchange(status, schema, "POST", f"{_PATH}/{name}/withdraw", fields)


RECONCILIATION_EXCHANGES: Final = {
    "reconciliation-begun": _begin(201, _BEGUN, period="month", timezone="Asia/Tokyo"),
    "reconciliation-invalid": _begin(
        400, schemas.INVALID, invoiceId=" ", timezone="Mars", last="2026-02-30"
    ),
    "reconciliation-backwards": _begin(400, schemas.INVALID, last="2026-01-31"),
    "reconciliation-saved": _add(200, _SAVED, "{reconciliation}"),
    "reconciliation-saved-again": _add(
        409, schemas.ERROR, "{saved_reconciliation}", totals=None
    ),
    "reconciliation-missing": _add(404, schemas.ERROR, "rec_0"),
    "reconciliation-invalid-match": _add(
        400, schemas.INVALID, "{reconciliation}", matches=["xyz"]
    ),
    "reconciliations": Exchange(
        200,
        {"type": "object", "properties": {"data": {"minItems": 1, "items": _SAVED}}},
        "GET",
        _PATH,
    ),
    "reconciliations-invalid": Exchange(
        400, schemas.INVALID, "GET", _PATH, query={"limit": "0"}
    ),
    "one-reconciliation": Exchange(
        200, _SAVED, "GET", _PATH + "/{saved_reconciliation}"
    ),
    "one-reconciliation-missing": Exchange(404, schemas.ERROR, "GET", f"{_PATH}/rec_0"),
    "reconciliation-withdrawn": _withdraw(
        200, _WITHDRAWN, "{wrong_reconciliation}", reason="the wrong month"
    ),
    "reconciliation-withdrawn-without-reason": _withdraw(
        400, schemas.INVALID, "{wrong_reconciliation}"
    ),
    "reconciliation-withdrawn-missing": _withdraw(
        404, schemas.ERROR, "rec_0", reason="the wrong month"
    ),
}


def reconciliation_names(http: httpx.Client) -> dict[str, str]:
    """Begin the reconciliations that the exchanges name, and save two."""
    names = {}
    saved = ("saved_reconciliation", "wrong_reconciliation")
    for name in ("reconciliation", *saved):
        response = http.post(_PATH, json=_BODY)
        assert response.status_code == 201, response.text
        names[name] = response.json()["id"]
    for name in saved:
        response = http.put(f"{_PATH}/{names[name]}", json=_DONE)
        assert response.status_code == 200, response.text
    return names
