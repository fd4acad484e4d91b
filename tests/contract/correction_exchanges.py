"""Requests about corrections of events, and closed periods: additions of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.contract import schemas
from tests.contract.exchange import Exchange
from tests.contract.schemas import INSTANT, TEXT, Schema

if TYPE_CHECKING:
    import httpx


def _object(**fields: Schema) -> Schema:
    return {"type": "object", "required": sorted(fields), "properties": fields}


_CORRECTION: Final = _object(
    object={"const": "correction"},
    id={"type": "string", "pattern": "^cor_[a-zA-Z0-9]+$"},
    kind={"enum": ["void", "adjust", "revert"]},
    eventId=TEXT,
    reason=TEXT,
    idempotencyKey=TEXT,
    createdAt=INSTANT,
    createdBy=TEXT,
)
_PERIOD: Final = _object(
    object={"const": "closedPeriod"},
    period=_object(**{"from": INSTANT, "to": INSTANT}),
    closedAt=INSTANT,
    closedBy=TEXT,
)
_LIST: Final = _object(object={"const": "list"}, data={"type": "array"})
_OUTCOME: Final = _object(
    object={"const": "corrections"},
    dryRun={"type": "boolean"},
    matched={"type": "integer"},
    corrected={"type": "integer"},
    unchanged={"type": "integer"},
)
_REASON: Final = {"reason": "test"}


def _post(path: str, status: int, schema: Schema, body: object) -> Exchange:
    return Exchange(status, schema, "POST", path, body)


def _adjust(status: int, schema: Schema, **overrides: object) -> Exchange:
    body = {"costId": "{cost}", "delta": "-0.5", **_REASON, **overrides}
    return _post("/v0/events/{corrected}/adjust", status, schema, body)


_MANY: Final = {
    "kind": "void",
    "types": ["cost.other"],
    "idempotencyKey": "many",
    **_REASON,
}

CORRECTION_EXCHANGES: Final = {
    "event-adjusted": _adjust(200, _CORRECTION, idempotencyKey="adjusted"),
    "event-adjusted-badly": _adjust(400, schemas.INVALID, delta="much"),
    "event-adjusted-average": _adjust(400, schemas.INVALID, costId="{average}"),
    "event-adjusted-nowhere": _adjust(404, schemas.ERROR, costId="cst_0"),
    "correction-reverted": _post(
        "/v0/corrections/{correction}/revert",
        200,
        _CORRECTION,
        {**_REASON, "idempotencyKey": "reverted"},
    ),
    "correction-reverted-again": _post(
        "/v0/corrections/{correction}/revert", 409, schemas.ERROR, _REASON
    ),
    "event-voided": _post(
        "/v0/events/{voided}/void",
        200,
        _CORRECTION,
        {**_REASON, "idempotencyKey": "voided"},
    ),
    "event-voided-again": _post(
        "/v0/events/{voided}/void", 409, schemas.ERROR, _REASON
    ),
    "event-voided-nowhere": _post("/v0/events/evt_0/void", 404, schemas.ERROR, _REASON),
    "event-voided-silently": _post(
        "/v0/events/{voided}/void", 400, schemas.INVALID, {}
    ),
    "corrections": Exchange(200, _LIST, "GET", "/v0/corrections"),
    "correction": Exchange(200, _CORRECTION, "GET", "/v0/corrections/{correction}"),
    "correction-missing": Exchange(404, schemas.ERROR, "GET", "/v0/corrections/cor_0"),
    "events-corrected": _post("/v0/corrections", 200, _OUTCOME, _MANY),
    "events-counted": _post(
        "/v0/corrections", 200, _OUTCOME, {**_MANY, "dryRun": True}
    ),
    "every-event-corrected": _post(
        "/v0/corrections", 400, schemas.INVALID, {**_MANY, "types": []}
    ),
    "period-closed": _post("/v0/closedPeriods", 200, _PERIOD, {"period": "2020-01"}),
    "period-not-over": _post(
        "/v0/closedPeriods", 409, schemas.ERROR, {"period": "9998-01"}
    ),
    "export-invalid": Exchange(400, schemas.INVALID, "GET", "/v0/export"),
    "periods": Exchange(200, _LIST, "GET", "/v0/closedPeriods"),
}


def corrected_names(http: httpx.Client, cost: str, event_type: str) -> dict[str, str]:
    """Make the events and the correction that the exchanges name."""
    names = {}
    for name in ("corrected", "voided"):
        body = {
            "type": event_type,
            "source": "tests",
            "subject": "cus_7",
            "timestamp": "2026-02-05T12:00:00Z",
            "data": {"amount": 1},
        }
        response = http.post("/v0/events", json=body)
        assert response.status_code == 202, response.text
        names[name] = response.json()["id"]
    path = f"/v0/events/{names['corrected']}/adjust"
    body = {"costId": cost, "delta": "1", **_REASON}
    names["correction"] = http.post(path, json=body).json()["id"]
    path = f"/v0/corrections/{names['correction']}/revert"
    body = {**_REASON, "idempotencyKey": "reverted"}
    assert http.post(path, json=body).status_code == 200
    path = f"/v0/events/{names['voided']}/void"
    body = {**_REASON, "idempotencyKey": "voided"}
    assert http.post(path, json=body).status_code == 200
    return names
