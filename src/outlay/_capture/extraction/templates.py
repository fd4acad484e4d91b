"""Ready-made extractors, for APIs that tell a price or a count where one can say.

Each reads only the members of the answer that it is told the paths of; one that is told
none leaves the body alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Required, TypedDict, Unpack

from outlay._capture.extraction.fields import to_amount, to_quantity
from outlay._capture.extraction.registry import Call
from outlay._capture.observation import Observation
from outlay.errors import ConfigError

Answer = Mapping[str, Any]
Read = Callable[[Answer, Call], dict[str, Any]]
"""Returns the fields of an observation that tell the cost."""


class ExtractorFields(TypedDict, total=False):
    """What every ready-made extractor may be told.

    Attributes:
        event_type: of the events, such as ``cost.enrichment``.
        operation_id: the path of the id that the provider gives to each call. Not of
            what was found: two look-ups of one person are two costs. None: the id of
            the request, where a header tells it.
        model: the plan, product or version, by which prices may differ.
        found: the path of what must be in the answer, lest the call is free: neither
            absent, nor null, false, zero or empty.
    """

    event_type: Required[str]
    operation_id: str | None
    model: str | None
    charged_if: str | None


class ResponseExtractor:
    """An extractor for an API of a common kind.

    Attributes:
        fields: paths of the members of the answer that it reads.
    """

    def __init__(
        self, read: Read, *paths: str, **facts: Unpack[ExtractorFields]
    ) -> None:
        """Read costs with ``read``, which looks at ``paths`` of the answer."""
        unknown = facts.keys() - ExtractorFields.__annotations__.keys()
        if unknown or not facts.get("event_type"):
            raise ConfigError(
                f"pass event_type, and of {_KNOWN} what applies"
                + "".join(f"; {name!r} is none of them" for name in sorted(unknown))
            )
        self._read = read
        self._event_type = facts["event_type"]
        self._operation_id = facts.get("operation_id")
        self._model = facts.get("model")
        self._found = facts.get("found")
        asked = (*paths, self._operation_id, self._found)
        self.fields = tuple(dict.fromkeys(path for path in asked if path))

    def __call__(self, answer: Answer, call: Call) -> Observation | None:
        """Return what the call cost, or None: nothing was found."""
        if self._found is not None and not answer.get(str(self._found)):
            return None
        told = answer.get(self._operation_id or "")
        return Observation(
            provider=call.provider,
            event_type=self._event_type,
            operation_id=None if told is None else str(told),
            request_id=call.request_id,
            model=self._model,
            **self._read(answer, call),
        )


_KNOWN: Final = ", ".join(ExtractorFields.__annotations__)


def price_header(
    name: str, *, currency: str = "USD", **facts: Unpack[ExtractorFields]
) -> ResponseExtractor:
    """Return an extractor of a price that a header of the answer tells.

    An answer without it, or with something else in it, is an unpriced cost, unless
    your price book has a price.

    Args:
        name: of the header, such as ``x-price``.
        currency: of the price, ISO 4217.
        **facts: see `Facts`.

    Raises:
        ConfigError: ``event_type`` is missing, or there is no such fact.
    """

    def read(_answer: Answer, call: Call) -> dict[str, Any]:
        amount = to_amount(call.headers.get(name.lower()))
        return {"amount": amount, "currency": currency}

    return ResponseExtractor(read, **facts)


def price_at(
    path: str,
    *,
    currency: str = "USD",
    currency_at: str | None = None,
    **facts: Unpack[ExtractorFields],
) -> ResponseExtractor:
    """Return an extractor of a price that the answer's JSON tells.

    The amount has all digits of the text, be it a number or a string.

    Args:
        path: of the price: names with dots between them, such as ``usage.cost``.
        currency: of the price, ISO 4217.
        currency_at: the path of the currency, where answers tell it.
        **facts: see `Facts`.

    Raises:
        ConfigError: ``event_type`` is missing, or there is no such fact.
    """

    def read(answer: Answer, _call: Call) -> dict[str, Any]:
        told = answer.get(currency_at or "")
        code = told.upper() if isinstance(told, str) and told else currency
        return {"amount": to_amount(answer.get(path)), "currency": code}

    return ResponseExtractor(read, path, currency_at or "", **facts)


def units_header(
    name: str, unit: str, **facts: Unpack[ExtractorFields]
) -> ResponseExtractor:
    """Return an extractor of a count that a header tells, for your price book.

    Args:
        name: of the header, such as ``x-credits-used``.
        unit: what is counted, such as ``credit``; the price book has its price.
        **facts: see `Facts`.

    Raises:
        ConfigError: ``event_type`` is missing, or there is no such fact.
    """

    def read(_answer: Answer, call: Call) -> dict[str, Any]:
        return _counted(unit, call.headers.get(name.lower()))

    return ResponseExtractor(read, **facts)


def units_at(
    path: str, unit: str, **facts: Unpack[ExtractorFields]
) -> ResponseExtractor:
    """Return an extractor of a count in the answer's JSON, for your price book.

    Args:
        path: of the count: names with dots between them, such as ``billing.pages``.
        unit: what is counted, such as ``page``; the price book has its price.
        **facts: see `Facts`.

    Raises:
        ConfigError: ``event_type`` is missing, or there is no such fact.
    """

    def read(answer: Answer, _call: Call) -> dict[str, Any]:
        return _counted(unit, answer.get(path))

    return ResponseExtractor(read, path, **facts)


def flat(unit: str = "call", **facts: Unpack[ExtractorFields]) -> ResponseExtractor:
    """Return an extractor for calls that all cost the same.

    Answers of status 300 and above are free; ``found`` makes others so.

    Args:
        unit: what one call is one of; the price book has its price.
        **facts: see `Facts`.

    Raises:
        ConfigError: ``event_type`` is missing, or there is no such fact.
    """

    def read(_answer: Answer, _call: Call) -> dict[str, Any]:
        return {"usage": {unit: 1}}

    return ResponseExtractor(read, **facts)


def _counted(unit: str, told: object) -> dict[str, Any]:
    quantity = to_quantity(told)
    if quantity is None:
        return {"is_complete": False}
    return {"usage": {unit: quantity}}
