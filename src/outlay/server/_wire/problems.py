"""Build the refusals of requests, in the contract's one error body."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

CATEGORIES: Final = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "payload_too_large",
    415: "unsupported_media_type",
    421: "misdirected_request",
    422: "unprocessable_entity",
    429: "too_many_requests",
    500: "internal_error",
    503: "unavailable",
}
"""The coarse ``error`` of each status. A problem may have a finer one."""

ACCEPT_GZIP: Final = (b"accept-encoding", b"gzip")
"""The header that offers to accept compressed bodies."""

UNPARKS: Final = (b"outlay-unparks", b"true")
"""The header of a 422 that invites a client to probe the event type again soon."""


class FieldError(msgspec.Struct, frozen=True, omit_defaults=True):
    """One invalid field.

    Attributes:
        field: The field's name on the wire, dotted for nested fields.
        message: The fault, and the allowed values.
        code: The broken rule, in upper snake case.
    """

    field: str
    message: str
    code: str | None = None


class ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """The body of every error response. Absent fields are left out.

    Attributes:
        message: The fault and the way to correct it, for a person.
        error: The coarse category, for a program.
        code: The broken rule, in upper snake case.
        details: Values for a program, such as the unmatched event type.
        errors: The invalid fields.
        reason: The reason of a 403.
        required_permissions: The permissions that the key lacks.
    """

    message: str
    error: str
    code: str | None = None
    details: dict[str, str] | None = None
    errors: Sequence[FieldError] | None = None
    reason: str | None = None
    required_permissions: Sequence[str] | None = None


class HttpProblem(Exception):  # noqa: N818 - a response, not a fault of the server
    """The refusal of a request. The router turns it into a response.

    Attributes:
        status: The HTTP status code.
        body: The response's body.
        headers: More headers of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        error: str | None = None,
        code: str | None = None,
        details: dict[str, str] | None = None,
        errors: Sequence[FieldError] | None = None,
        reason: str | None = None,
        required_permissions: Sequence[str] | None = None,
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        self.status = status
        self.body = ErrorBody(
            message,
            error or CATEGORIES[status],
            code,
            details,
            errors,
            reason,
            required_permissions,
        )
        self.headers = tuple(headers)
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (self.status, self.body, self.headers)


def _restored(
    status: int, body: ErrorBody, headers: Iterable[tuple[bytes, bytes]]
) -> HttpProblem:
    """Return a problem that another process raised."""
    problem = HttpProblem(status, body.message, headers=headers)
    problem.body = body
    return problem


def invalid_fields(errors: Sequence[FieldError]) -> HttpProblem:
    """Return the 400 that names every invalid field."""
    text = "; ".join(f"{error.field}: {error.message}" for error in errors)
    return HttpProblem(400, text, error="validation_error", errors=errors)


def malformed_body(message: str) -> HttpProblem:
    """Return the 400 for a body that cannot be read."""
    return HttpProblem(400, message, code="MALFORMED_BODY")


def unauthorized(message: str) -> HttpProblem:
    """Return the 401 that says how to authenticate."""
    return HttpProblem(
        401, message, code="UNAUTHORIZED", headers=[(b"www-authenticate", b"Bearer")]
    )


def missing_permission(permission: str) -> HttpProblem:
    """Return the 403 for a key without ``permission``."""
    return HttpProblem(
        403,
        f"this API key lacks the permission {permission}; use a key that has it",
        code="FORBIDDEN",
        reason="no_permission",
        required_permissions=[permission],
    )


def other_organization(field: str, namespace: str) -> HttpProblem:
    """Return the 403 for naming another organization than the key's."""
    return HttpProblem(
        403,
        f"{field} {namespace} is not the organization of this API key; leave it out",
        code="FORBIDDEN",
        reason="not_member",
    )


def not_found(what: str, identifier: str) -> HttpProblem:
    """Return the 404 for an object that does not exist, or no longer exists."""
    code = what.upper().replace(" ", "_") + "_NOT_FOUND"
    return HttpProblem(404, f"{what} {identifier} does not exist", code=code)


def forbidden_page() -> HttpProblem:
    """Return the 403 for a web page that asks a server without a key."""
    return HttpProblem(
        403,
        "this server is for development, and takes requests of programs on this "
        "machine only: send no Origin, and name the host 127.0.0.1 or localhost",
    )


def unmatched_event_type(event_type: str) -> HttpProblem:
    """Return the 422 for an event type that has no cost metric.

    Published exporters look for this spelling of ``error``.
    """
    return HttpProblem(
        422,
        f"no cost metric reads events of type {event_type!r}; "
        "create one with POST /v0/costs, then send the event again",
        error="invalid_event_type",
        code="INVALID_EVENT_TYPE",
        details={"type": event_type},
        headers=[UNPARKS],
    )


def events_removed(name: str) -> HttpProblem:
    """Return the 409 for a corrected extreme whose events retention has removed."""
    return HttpProblem(
        409,
        f"{name} is no sum, and an event of this period is void, so its value must be "
        "found again among the events, which retention has removed; revert the void, "
        "or ask for a period without it",
        code="EVENTS_REMOVED",
    )


def too_large(limit: int) -> HttpProblem:
    """Return the 413 for a body over ``limit`` bytes."""
    return HttpProblem(
        413, f"the body is larger than {limit} bytes; send less", code="BODY_TOO_LARGE"
    )


def unsupported_encoding(encoding: str) -> HttpProblem:
    """Return the 415 that names the supported encodings of a body (RFC 7694)."""
    return HttpProblem(
        415,
        f"Content-Encoding {encoding!r} is not supported; send gzip, or no encoding",
        code="UNSUPPORTED_CODING",
        headers=[ACCEPT_GZIP],
    )


def too_many_requests(seconds: int) -> HttpProblem:
    """Return the 429 for a key that sends too much. It may send again in seconds."""
    return HttpProblem(
        429,
        f"this API key sends too many requests; send again in {seconds} s",
        code="RATE_LIMITED",
        headers=[(b"retry-after", b"%d" % seconds)],
    )


def unavailable(message: str) -> HttpProblem:
    """Return the 503 for a request that the client may send again in a second."""
    return HttpProblem(
        503, message, code="UNAVAILABLE", headers=[(b"retry-after", b"1")]
    )
