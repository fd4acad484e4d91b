"""Parts of the server's responses that several of the commands' clients read."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Wire(BaseModel):
    """Common rules: camelCase names on the wire, and unknown fields are ignored."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True
    )


class Period(Wire):
    """A period. The end itself does not count."""

    start: Annotated[AwareDatetime, Field(alias="from")]
    end: Annotated[AwareDatetime, Field(alias="to")]


class Pagination(Wire):
    """The number of items on all pages."""

    total: int


class WirePage(Wire):
    """A page of a list, which a subclass says the items of."""

    data: tuple[Any, ...]
    pagination: Pagination


class Rate(Wire):
    """The price of one unit of a currency in another one, from an instant on."""

    from_currency: Annotated[str, Field(alias="from")]
    to_currency: Annotated[str, Field(alias="to")]
    rate: Decimal
    valid_from: AwareDatetime
    source: str
