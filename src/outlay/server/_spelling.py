"""Check the spelling of texts, with errors that say what to write."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import PydanticCustomError, core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler


@dataclass(frozen=True)
class Spelling:
    """Metadata of a field whose text must match a pattern.

    Pydantic's own error shows the pattern, which not everybody reads.

    Attributes:
        pattern: The pattern, which the OpenAPI document shows as well.
        message: The form in words, such as "must be a month such as 2026-10".
    """

    pattern: str
    message: str

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern, re.ASCII)

    def _checked(self, text: str) -> str:
        if self._compiled.fullmatch(text) is None:
            raise PydanticCustomError("string_pattern_mismatch", self.message)
        return text

    def __get_pydantic_core_schema__(
        self, source: type[Any], handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Check the text after the other metadata on the left."""
        return core_schema.no_info_after_validator_function(
            self._checked, handler(source)
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Show the pattern."""
        return {**handler(schema), "pattern": self.pattern}


CURRENCY: Final = Spelling(
    "^[A-Z]{3}$", "must be a currency of three letters, such as EUR"
)
ORGANIZATION: Final = Spelling(
    "^org_[a-zA-Z0-9]+$", "must be 'org_' and then letters and digits, such as org_acme"
)
