"""Read posted forms, and refuse those of other sites."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ValidationError

from outlay.server._wire.problems import FieldError, HttpProblem, invalid_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

Model = TypeVar("Model", bound=BaseModel)

_MAX_BYTES: Final = 64 * 1024
_MEDIA_TYPE: Final = "application/x-www-form-urlencoded"


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a posted form. Several values of a name become lines.

    Raises:
        HttpProblem: The form is from another site, too large, or of another type.
    """
    check_origin(request)
    if request.headers.get("content-type", "").partition(";")[0] != _MEDIA_TYPE:
        raise HttpProblem(415, "send the form as a browser does")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BYTES:
            raise HttpProblem(413, f"a form has at most {_MAX_BYTES} bytes")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True)
    except UnicodeDecodeError:
        raise HttpProblem(400, "send the form in UTF-8") from None
    fields: dict[str, str] = {}
    for name, value in pairs:
        fields[name] = f"{fields[name]}\n{value}" if name in fields else value
    return fields


def check_origin(request: Request) -> None:
    """Refuse a form of another site.

    Browsers send ``Origin`` with each form. The cookie is ``SameSite=Strict`` and a
    form has a token, so this check is a third lock. The sign-in form has only this one.

    Raises:
        HttpProblem: 403, because the form is from another site.
    """
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise HttpProblem(403, "this form came from another site; open it here")


def read_fields(model: type[Model], values: Mapping[str, object]) -> Model:
    """Return the fields of a form as ``model``.

    Raises:
        HttpProblem: 400, with each invalid field by its name in the form.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        names = {
            field.alias or name: name for name, field in model.model_fields.items()
        }
        raise invalid_fields(
            [
                FieldError(
                    _field_name(fault["loc"], names),
                    fault["msg"].removeprefix("Value error, "),
                )
                for fault in error.errors(include_url=False, include_input=False)
            ]
        ) from None


def field_errors(problem: HttpProblem) -> dict[str, str]:
    """Return the message of each invalid field, by its name in the form."""
    errors: dict[str, str] = {}
    for fault in problem.body.errors or ():
        name = _SERVICE_NAMES.get(fault.field, fault.field)
        errors.setdefault(name, fault.message)
    return errors


_SERVICE_NAMES: Final = {"valueProperty": "value_property", "expiresAt": "expires"}


def _field_name(place: tuple[int | str, ...], names: Mapping[str, str]) -> str:
    # An error of several fields together has no place. All such are about the value.
    if not place:
        return "value_property"
    return names.get(str(place[0]), str(place[0]))
