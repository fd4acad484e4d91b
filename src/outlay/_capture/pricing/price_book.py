"""Read a price book, and find the price of an operation in it."""

from __future__ import annotations

import hashlib
import itertools
import json
import tomllib
from decimal import Context, Decimal, localcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from pydantic import ValidationError

from outlay._capture.pricing.book_entries import ANY, Entry
from outlay._capture.pricing.price_lists import Price, PriceUnknown, strip_zeros
from outlay._capture.pricing.units import quantities_by_unit, without_overlap
from outlay._model.bounded import BoundedDict
from outlay.errors import ConfigError, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from outlay._capture.observation import Observation

_EXACT: Final = Context(prec=200)  # whatever the application's is
_DEFAULT_CURRENCY: Final = "USD"
_VERSION_DIGITS: Final = 12  # of the file's SHA-256, which tells its states apart
_MAX_CACHED: Final = 4096  # kinds of operations; a caller's free text may add more

_BOOK_FIELDS: Final = frozenset({"name", "currency", "price"})


class PriceBook:
    """A user's own prices: agreed ones, and those that no public list has.

    Thread safety: any thread. A book never changes.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        *,
        name: str = "price book",
        currency: str = _DEFAULT_CURRENCY,
        version: str | None = None,
    ) -> None:
        """Create a book.

        Args:
            entries: The entries, in any order.
            name: The name of the book in events.
            currency: The currency of entries that name none, ISO 4217. Defaults to
                ``USD``.
            version: Identifies this state of the book. If None, it is not known.

        Raises:
            ConfigError: Two entries for the same hold at the same time.
        """
        self.name: Final = name
        self.currency: Final = currency
        self.version: Final = version
        numbered = [
            each if each.id else each.model_copy(update={"id": f"#{number}"})
            for number, each in enumerate(entries, 1)
        ]
        self.entries: Final = tuple(_with_end_dates(numbered))
        self.overrides: bool = any(each.override_reported for each in entries)
        # The entries that match a kind of operation, the most special one first.
        self._matching: BoundedDict[tuple[str | None, ...], tuple[Entry, ...]] = (
            BoundedDict(_MAX_CACHED)
        )

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a book from a TOML or JSON file; see docs/pricing.md.

        Raises:
            ConfigError: The file cannot be read, or is wrong. The message names the
                file, the entry, and the allowed values.
        """
        path = Path(path)
        try:
            content = path.read_bytes()
            document = _parse(path, content)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        except ValueError as error:  # of TOML, JSON or UTF-8
            raise ConfigError(f"{path}: is not {_kind(path)}: {error}") from error
        try:
            return cls.from_document(document, name=path.stem, content=content)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None

    @classmethod
    def from_document(
        cls, document: dict[str, Any], *, name: str, content: bytes
    ) -> Self:
        """Create a book from a decoded file.

        Args:
            document: The decoded file.
            name: The name of the book, unless the document contains one.
            content: The file's bytes, whose digest is the book's version.

        Raises:
            ConfigError: A field or an entry is wrong.
        """
        unknown = document.keys() - _BOOK_FIELDS
        if unknown:
            known = ", ".join(sorted(_BOOK_FIELDS))
            raise ConfigError(
                f"{', '.join(sorted(unknown))}: no such field; there are {known}"
            )
        return cls(
            _entries(document.get("price", [])),
            name=str(document.get("name", name)),
            currency=str(document.get("currency", _DEFAULT_CURRENCY)),
            version=hashlib.sha256(content).hexdigest()[:_VERSION_DIGITS],
        )

    def price(self, observation: Observation, at: datetime) -> Price | PriceUnknown:
        """Return the price of ``observation`` at that time, or why it is unknown.

        Args:
            observation: The usage of one operation.
            at: The time of the operation, aware.

        Returns:
            The exact amount with its entry, or the reason why there is none.
        """
        entry = self.entry(observation, at)
        if entry is None:
            return PriceUnknown(
                "no_entry",
                f"{self.name} has no price of {observation.provider} "
                f"{observation.model or observation.event_type}",
            )
        with localcontext(_EXACT):
            amount = _amount(entry, observation)
        if isinstance(amount, PriceUnknown):
            return amount._replace(message=f"{self.name}, {entry.id}: {amount.message}")
        return Price(
            amount=strip_zeros(amount),
            currency=entry.currency or self.currency,
            data={"list": self.name, "version": self.version, **entry.metadata()},
            overrides_reported=entry.override_reported,
        )

    def entry(self, observation: Observation, at: datetime) -> Entry | None:
        """Return the entry that holds for ``observation`` at that time, or None.

        Args:
            observation: The usage of one operation.
            at: The time of the operation, aware.
        """
        kind = (
            observation.provider,
            observation.model,
            observation.event_type,
            observation.region,
            observation.service_tier,
            observation.line,
            observation.endpoint,
        )
        found = self._matching.get(kind)
        if found is None:
            matching = [each for each in self.entries if each.matches(observation)]
            found = tuple(
                sorted(matching, key=lambda each: each.specificity, reverse=True)
            )
            self._matching[kind] = found
        for each in found:
            if each.since <= at and (each.until is None or at < each.until):
                return each
        return None


def _amount(entry: Entry, observation: Observation) -> Decimal | PriceUnknown:
    if not entry.units:
        return entry.cost({}, {})
    if not observation.usage and observation.amount is not None:
        # A tool reported an amount without its usage. The price of nothing is wrong.
        return PriceUnknown("unreadable_usage", "nothing was counted")
    usage = quantities_by_unit(observation)
    if isinstance(usage, PriceUnknown):
        return usage
    billed = without_overlap(usage, entry.units.keys() | entry.free)
    return billed if isinstance(billed, PriceUnknown) else entry.cost(billed, usage)


def _kind(path: Path) -> str:
    return "JSON" if path.suffix == ".json" else "TOML"


def _parse(path: Path, content: bytes) -> dict[str, Any]:
    if path.suffix == ".json":
        document = json.loads(content, parse_float=Decimal)
        if not isinstance(document, dict):
            message = "pass an object with 'price', a list of entries"
            raise ValueError(message)
        return document
    return tomllib.loads(content.decode(), parse_float=Decimal)


def _entries(rows: object) -> list[Entry]:
    if not isinstance(rows, list):
        raise ConfigError("price: pass a list of entries, [[price]] in TOML")
    return [_entry(number, row) for number, row in enumerate(rows, 1)]


def _entry(number: int, row: object) -> Entry:
    try:
        return Entry.model_validate(row)
    except ValidationError as error:
        title = f"price {number}"
        if isinstance(row, dict):
            names = [str(row[key]) for key in ("provider", "model") if key in row]
            title += f" ({' '.join(names)})" if names else ""
        problems = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'entry'}"
            f"{_format_value(each['input'])}: "
            f"{each['msg'].removeprefix('Value error, ')}"
            for each in error.errors(include_url=False)
        )
        raise ConfigError(f"{title}: {problems}") from None


def _format_value(value: object) -> str:
    return "" if isinstance(value, dict | list) else f"={shorten(value)}"


def _named_fields(entry: Entry) -> str:
    return " ".join(field for field in entry.matched_fields if field not in {"", ANY})


def _with_end_dates(entries: Sequence[Entry]) -> Iterator[Entry]:
    """Yield the entries. One without an end ends where the next one begins.

    Raises:
        ConfigError: Two entries for the same hold at the same time.
    """
    ordered = sorted(entries, key=lambda each: (each.matched_fields, each.since))
    for _, group in itertools.groupby(ordered, key=lambda each: each.matched_fields):
        same = list(group)
        for each, following in itertools.zip_longest(same, same[1:]):
            if following is None:
                yield each
            elif each.since == following.since or (
                each.until is not None and each.until > following.since
            ):
                raise ConfigError(
                    f"entries {each.id} and {following.id} are for the same, "
                    f"{_named_fields(each)}, and both hold on "
                    f"{following.since:%Y-%m-%d}: end the first with 'until'"
                )
            elif each.until is None:
                yield each.model_copy(update={"until": following.since})
            else:
                yield each
