"""The page of API keys: who may do what, until when, and when a key was last used."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from outlay.server._dashboard.amounts import count
from outlay.server._dashboard.forms import field_errors, read_fields
from outlay.server._dashboard.pages import (
    Message,
    Page,
    Redirect,
    Subject,
    frame,
    question,
)
from outlay.server._dashboard.periods import local
from outlay.server._services.auth import (
    ALL_PERMISSIONS,
    PERMISSIONS,
    require_permission,
)
from outlay.server._storage.page import Page as ListPage
from outlay.server._wire.key_models import KeyCreate, KeyRotate
from outlay.server._wire.problems import HttpProblem
from outlay.server._wire.response_models import format_instant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from outlay.server._dashboard.visit import Visit
    from outlay.server._records import ApiKey
    from outlay.server._wire.key_models import KeyResponse

READ: Final = "apiKeys:read"
WRITE: Final = "apiKeys:write"
_PAGE_SIZE: Final = 50
_LIVES: Final = {
    "": "never",
    "30": "in 30 days",
    "90": "in 90 days",
    "365": "in a year",
}
_DONE: Final = {"revoked": "The key was revoked. The next request with it is refused."}
_MICROSECOND: Final = timedelta(microseconds=1)


def api_keys(visit: Visit) -> Page:
    """Return the page ``/api-keys``: the list, or the question before a key ends."""
    require_permission(visit.key, READ)
    if "revoke" in visit.query:
        with visit.core.store.reading() as reader:
            key = reader.key_with_id(visit.key.namespace, visit.query["revoke"])
        if key is None:
            raise HttpProblem(404, f"key {visit.query['revoke']} does not exist")
        return question(
            visit,
            "Revoke",
            Subject(key.id, key.name, "key", "API keys"),
            f"The key that ends with …{key.hint} is refused from the next request on. "
            "Programs that use it keep their events, and send them with a new key.",
            visit.link("/api-keys", revoke=None),
        )
    done = _DONE.get(visit.query.get("done", ""))
    return _list(visit, [Message("good", done)] if done else [])


def _list(
    visit: Visit,
    messages: Sequence[Message] = (),
    *,
    created: KeyResponse | None = None,
    fields: Mapping[str, str] | None = None,
    errors: Mapping[str, str] | None = None,
) -> Page:
    offset = (visit.page - 1) * _PAGE_SIZE
    with visit.core.store.reading() as reader:
        keys, total = reader.keys(visit.key.namespace, ListPage(_PAGE_SIZE, offset))
    context: dict[str, Any] = {
        "messages": messages,
        "created": created,
        "fields": fields or {"name": "", "expires": "", "permissions": "costs:read"},
        "errors": errors or {},
        "lives": _LIVES,
        "permissions": _grantable(visit),
        "may_write": visit.may(WRITE),
        "rows": [_row(visit, key) for key in keys],
        "shown": f"{count(total)} in all" if total else "",
        "previous_page": visit.link(page=str(visit.page - 1)) if offset else "",
        "next_page": visit.link(page=str(visit.page + 1))
        if offset + len(keys) < total
        else "",
    }
    return Page(
        "keys.html", {**frame(visit, "API keys"), **context}, 400 if errors else 200
    )


def _grantable(visit: Visit) -> list[str]:
    """Return the permissions that the session's key may give, all of them last."""
    return sorted(filter(visit.may, PERMISSIONS), key=lambda one: (one == "*", one))


def _row(visit: Visit, key: ApiKey) -> dict[str, Any]:
    now = visit.core.now()
    state = ("good", "valid")
    if key.revoked_at is not None:
        state = ("bad", "revoked")
    elif not key.is_valid(now):
        state = ("warn", "expired")
    return {
        "id": key.id,
        "name": key.name,
        "hint": key.hint,
        "is_own": key.digest == visit.key.digest,
        "permissions": ["everything"]
        if ALL_PERMISSIONS in key.permissions
        else sorted(key.permissions),
        "created": _day(visit, key.created_at),
        "expires": _day(visit, key.expires_at),
        "used": _minute(visit, key.last_used_at),
        "state": state,
        "revoke": visit.link(revoke=key.id, done=None)
        if state[1] == "valid" and visit.may(WRITE)
        else "",
    }


def _day(visit: Visit, at: int | None) -> str:
    if at is None:
        return "–"
    day = local(at, visit.period.zone)
    return f"{day.day} {day:%b %Y}"


def _minute(visit: Visit, at: int | None) -> str:
    if at is None:
        return "never"
    return f"{_day(visit, at)}, {local(at, visit.period.zone):%H:%M}"


async def change_keys(visit: Visit, form: Mapping[str, str]) -> Page | Redirect:
    """Create, rotate or revoke a key, as a form says.

    A new key is in this response and nowhere else.
    """
    require_permission(visit.key, WRITE)
    keys, action = visit.core.keys, form.get("action", "")
    if action == "revoke":
        await keys.revoke(visit.key, form.get("id", ""))
        return Redirect(visit.link("/api-keys", revoke=None, done="revoked"))
    if action == "rotate":
        made = await keys.rotate(visit.key, form.get("id", ""), KeyRotate())
        return _list(visit, created=made)
    if action != "create":
        raise HttpProblem(400, "this form is of another version; reload its page")
    fields = {name: form.get(name, "") for name in ("name", "expires", "permissions")}
    try:
        made = await keys.create(
            visit.key, read_fields(KeyCreate, _values(visit, fields))
        )
    except HttpProblem as problem:
        if problem.body.errors is None:
            raise
        return _list(visit, fields=fields, errors=field_errors(problem))
    return _list(visit, created=made)


def _values(visit: Visit, fields: Mapping[str, str]) -> dict[str, object]:
    values: dict[str, object] = {
        "name": fields["name"].strip(),
        "permissions": [one for one in fields["permissions"].split("\n") if one],
    }
    if fields["expires"] in _LIVES and fields["expires"]:
        life = timedelta(days=int(fields["expires"])) // _MICROSECOND
        values["expires_at"] = format_instant(visit.core.now() + life)
    return values
