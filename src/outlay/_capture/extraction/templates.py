"""Build extractors for APIs that report a price or a count in one place.

Each extractor reads only the members of the response whose paths it is given. Without
paths it does not read the body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Required, TypedDict, Unpack

from outlay._capture.extraction.fields import to_amount, to_quantity
from outlay._capture.extraction.registry import Call
from outlay._capture.observation import Observation
from outlay.errors import ConfigError

Response = Mapping[str, Any]
Read = Callable[[Response, Call], dict[str, Any]]
"""Returns the fields of an observation that contain the cost."""


class ExtractorFields(TypedDict, total=False):
    """The arguments that all ready-made extractors accept.

    Attributes:
        event_type: The type of the events, such as ``cost.enrichment``.
        operation_id: The path of the id that the provider gives to each call. Do not
            use the id of the object that was found: two look-ups of one person are two
            costs. If None, the id of the request counts, where a header contains it.
        model: The plan, product or version, where prices differ by it.
        charged_if: The path of a member. The call is free if the member is absent,
            null, false, zero or empty. If None, every call is charged.
    """

    event_type: Required[str]
    operation_id: str | None
    model: str | None
    charged_if: str | None


class ResponseExtractor:
    """Extracts the cost from responses of an API of a common kind.

    Attributes:
        fields: The paths of the members of the response that it reads.
    """

    def __init__(
        self, read: Read, *paths: str, **fields: Unpack[ExtractorFields]
    ) -> None:
        """Read costs with ``read``, which looks at ``paths`` of the response."""
        unknown = fields.keys() - ExtractorFields.__annotations__.keys()
        if unknown or not fields.get("event_type"):
            raise ConfigError(
                f"pass event_type, and of {_KNOWN} what applies"
                + "".join(f"; {name!r} is none of them" for name in sorted(unknown))
            )
        self._read = read
        self._event_type = fields["event_type"]
        self._operation_id = fields.get("operation_id")
        self._model = fields.get("model")
        self._charged_if = fields.get("charged_if")
        used = (*paths, self._operation_id, self._charged_if)
        self.fields: tuple[str, ...] = tuple(
            dict.fromkeys(path for path in used if path)
        )

    def __call__(self, response: Response, call: Call) -> Observation | None:
        """Return the cost of the call, or None if the call is free."""
        if self._charged_if is not None and not response.get(self._charged_if):
            return None
        operation_id = response.get(self._operation_id or "")
        return Observation(
            provider=call.provider,
            event_type=self._event_type,
            operation_id=None if operation_id is None else str(operation_id),
            request_id=call.request_id,
            model=self._model,
            **self._read(response, call),
        )


_KNOWN: Final = ", ".join(ExtractorFields.__annotations__)


def price_from_header(
    name: str, *, currency: str = "USD", **fields: Unpack[ExtractorFields]
) -> ResponseExtractor:
    """Return an extractor of a price that a header of the response contains.

    A response without the header, or with no number in it, is an unpriced cost. Your
    price book can still price it.

    Args:
        name: The name of the header, such as ``x-price``.
        currency: The currency of the price, ISO 4217. Defaults to ``USD``.
        **fields: The fields of `ExtractorFields`.

    Raises:
        ConfigError: ``event_type`` is missing, or a field is unknown.
    """

    def read(_response: Response, call: Call) -> dict[str, Any]:
        amount = to_amount(call.headers.get(name.lower()))
        return {"amount": amount, "currency": currency}

    return ResponseExtractor(read, **fields)


def price_from_body(
    path: str,
    *,
    currency: str = "USD",
    currency_path: str | None = None,
    **fields: Unpack[ExtractorFields],
) -> ResponseExtractor:
    """Return an extractor of a price in the JSON of the response.

    The price may be a number or a string. The amount keeps all its digits.

    Args:
        path: The path of the price: names joined by dots, such as ``usage.cost``.
        currency: The currency of the price, ISO 4217. Defaults to ``USD``.
        currency_path: The path of the currency. If None, or if the response has none,
            ``currency`` applies.
        **fields: The fields of `ExtractorFields`.

    Raises:
        ConfigError: ``event_type`` is missing, or a field is unknown.
    """

    def read(response: Response, _call: Call) -> dict[str, Any]:
        reported = response.get(currency_path or "")
        known = isinstance(reported, str) and reported
        code = str(reported).upper() if known else currency
        return {"amount": to_amount(response.get(path)), "currency": code}

    return ResponseExtractor(read, path, currency_path or "", **fields)


def units_from_header(
    name: str, unit: str, **fields: Unpack[ExtractorFields]
) -> ResponseExtractor:
    """Return an extractor of a count in a header, which your price book prices.

    Args:
        name: The name of the header, such as ``x-credits-used``.
        unit: The unit that is counted, such as ``credit``.
        **fields: The fields of `ExtractorFields`.

    Raises:
        ConfigError: ``event_type`` is missing, or a field is unknown.
    """

    def read(_response: Response, call: Call) -> dict[str, Any]:
        return _counted(unit, call.headers.get(name.lower()))

    return ResponseExtractor(read, **fields)


def units_from_body(
    path: str, unit: str, **fields: Unpack[ExtractorFields]
) -> ResponseExtractor:
    """Return an extractor of a count in the response, which your price book prices.

    Args:
        path: The path of the count: names joined by dots, such as ``billing.pages``.
        unit: The unit that is counted, such as ``page``.
        **fields: The fields of `ExtractorFields`.

    Raises:
        ConfigError: ``event_type`` is missing, or a field is unknown.
    """

    def read(response: Response, _call: Call) -> dict[str, Any]:
        return _counted(unit, response.get(path))

    return ResponseExtractor(read, path, **fields)


def flat_rate(
    unit: str = "call", **fields: Unpack[ExtractorFields]
) -> ResponseExtractor:
    """Return an extractor for calls that all cost the same.

    Responses of status 300 and above are free. ``charged_if`` makes others free.

    Args:
        unit: The unit that one call counts as. Your price book has its price.
            Defaults to ``call``.
        **fields: The fields of `ExtractorFields`.

    Raises:
        ConfigError: ``event_type`` is missing, or a field is unknown.
    """

    def read(_response: Response, _call: Call) -> dict[str, Any]:
        return {"usage": {unit: 1}}

    return ResponseExtractor(read, **fields)


def _counted(unit: str, count: object) -> dict[str, Any]:
    quantity = to_quantity(count)
    if quantity is None:
        return {"is_complete": False}
    return {"usage": {unit: quantity}}
