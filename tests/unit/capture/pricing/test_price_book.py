"""Price books: whose price holds, what it comes to, and what is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Context, Decimal, localcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from outlay import ConfigError, Settings
from outlay._capture.pricing.configured_lists import configured_prices
from outlay.pricing import Entry, Observation, Price, PriceBook, PriceUnknown
from tests.docs.blocks import blocks

if TYPE_CHECKING:
    from outlay._capture.pricing import PricedAmount

AT: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)

BOOK: Final = """\
name = "acme"

[[price]]
provider = "textract"
from = 2026-01-01
until = 2026-07-01
per = 1000
units = { page = 1.50 }
source = "https://aws.amazon.com/textract/pricing/"

[[price]]
id = "textract-second-half"
provider = "textract"
from = 2026-07-01
units.page = { price = 1.20, per = 1000 }

[[price]]
provider = "clearbit"
from = 2026-01-01
call = 0.05
currency = "EUR"
"""


def entry(**fields: Any) -> Entry:  # noqa: ANN401 - of any field's type
    """Return an entry of the provider acme, in force for ages."""
    return Entry.model_validate({"provider": "acme", "from": "2020-01-01", **fields})


def observe(**fields: Any) -> Observation:  # noqa: ANN401 - of any field's type
    """Return what acme's API made observed."""
    return Observation(
        **{"provider": "acme", "event_type": "cost.test", "usage": {}, **fields}
    )


def cost(entry: Entry, **fields: Any) -> Decimal | str:  # noqa: ANN401 - as above
    """Return what an operation costs by one entry, or the reason that it does not."""
    answer = PriceBook([entry]).price(observe(**fields), AT)
    return answer.amount if isinstance(answer, Price) else answer.reason


def written(folder: Path, text: str, name: str = "prices.toml") -> Path:
    """Return a new file with ``text`` in it."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_price_says_where_it_is_from(tmp_path: Path) -> None:
    """A person who doubts a cost finds the line of the book that it was priced by."""
    book = PriceBook.load(written(tmp_path, BOOK))

    price = book.price(observe(provider="textract", usage={"page": 3}), AT)

    assert isinstance(price, Price)
    assert Decimal("0.0036") == price.amount
    assert price.currency == "USD"
    assert price.data == {
        "list": "acme",
        "version": book.version,
        "entry": "textract-second-half",
        "since": "2026-07-01T00:00:00+00:00",
    }


def test_the_price_of_the_day_holds(tmp_path: Path) -> None:
    """A cost of May is priced by the price of May, whenever that is done."""
    book = PriceBook.load(written(tmp_path, BOOK))
    days = {
        datetime(2025, 12, 31, 23, 59, tzinfo=UTC): "no_entry",
        datetime(2026, 1, 1, tzinfo=UTC): Decimal("0.0045"),
        datetime(2026, 6, 30, 23, 59, tzinfo=UTC): Decimal("0.0045"),
        datetime(2026, 7, 1, tzinfo=UTC): Decimal("0.0036"),
        datetime(2036, 7, 1, tzinfo=UTC): Decimal("0.0036"),
    }

    for day, expected in days.items():
        answer = book.price(observe(provider="textract", usage={"page": 3}), day)
        got = answer.amount if isinstance(answer, Price) else answer.reason
        assert expected == got, day


def test_an_entry_without_an_end_ends_where_the_next_begins() -> None:
    """A new price is a new entry: the old one need not be touched."""
    old, new = entry(call=1), entry(call=2, **{"from": "2026-11-20T13:00:00+01:00"})
    for entries in ([old, new], [new, old]):
        book = PriceBook(entries)
        before, after = (
            book.price(observe(), moment)
            for moment in (AT.replace(hour=11, minute=59), AT)
        )

        assert isinstance(before, Price)
        assert isinstance(after, Price)
        assert (Decimal(1), Decimal(2)) == (before.amount, after.amount)


def test_json_is_read_as_exactly_as_toml(tmp_path: Path) -> None:
    """0.1 means a tenth, and not the binary fraction next to it."""
    book = PriceBook.load(
        written(
            tmp_path,
            '{"currency": "CHF", "price": [{"provider": "acme", "from": "2026-01-01", '
            '"call": 0.1234567890123456789012345}]}',
            "prices.json",
        )
    )

    price = book.price(observe(), AT)

    assert isinstance(price, Price)
    assert Decimal("0.1234567890123456789012345") == price.amount
    assert price.currency == "CHF"


# What an operation comes to.

TIERS: Final = [
    {"up_to": 1000, "price": 3},
    {"up_to": 5000, "price": 2},
    {"price": 1},
]
HALF_EVEN: Final = {"places": 2, "mode": "half_even"}
PAGE: Final = {"units": {"page": 1}}


@pytest.mark.parametrize(
    ("fields", "usage", "expected"),
    [
        pytest.param({"call": "0.05"}, {}, "0.05", id="call"),
        pytest.param({"call": "0.05"}, {"call": 1}, "0.05", id="call-counted"),
        pytest.param(
            {"call": "0.05", "units": {"page": "0.1"}}, {"page": 2}, "0.25", id="both"
        ),
        pytest.param(
            {"per": 60, "units": {"second": "0.06"}},
            {"second": 90.5},
            "0.0905",
            id="per",
        ),
        pytest.param(
            {"units": {"second": {"price": "0.06", "per": 60, "step": 60}}},
            {"second": 61},
            "0.12",
            id="whole-minutes",
        ),
        pytest.param(
            {"units": {"second": {"price": 1, "at_least": 10}}},
            {"second": 3},
            "10",
            id="at-least",
        ),
        pytest.param(
            {"units": {"second": {"price": 1, "at_least": 10}}},
            {"second": 0},
            "0",
            id="at-least-of-nothing",
        ),
        pytest.param(
            {"units": {"page": {"tiers": TIERS}}}, {"page": 1000}, "3000", id="tier-end"
        ),
        pytest.param(
            {"units": {"page": {"tiers": TIERS}}}, {"page": 1001}, "2002", id="volume"
        ),
        pytest.param(
            {"units": {"page": {"tiers": TIERS, "mode": "graduated"}}},
            {"page": 6000},
            "12000",
            id="graduated",
        ),
        pytest.param(
            {"units": {"a": {"tiers": TIERS, "by": "b"}, "b": 0}},
            {"a": 1, "b": 2000},
            "2",
            id="tier-by-another-unit",
        ),
        pytest.param(
            {"units": {"page": "0.001"}, "minimum": "0.01"},
            {"page": 1},
            "0.01",
            id="min",
        ),
        pytest.param(
            {"units": {"page": "0.0125"}, "rounding": {"places": 2, "mode": "up"}},
            {"page": 1},
            "0.02",
            id="rounded-up",
        ),
        pytest.param(
            {
                "units": {"page": "0.125"},
                "rounding": {"places": 2, "mode": "half_even"},
            },
            {"page": 1},
            "0.12",
            id="rounded-half-even",
        ),
        pytest.param(
            {"units": {"page": 1}, "free": ["byte"]},
            {"page": 2, "byte": 9},
            "2",
            id="free",
        ),
        pytest.param(PAGE, {"page": 2, "byte": 9}, "no_unit_price", id="more"),
        pytest.param(PAGE, {"page": -2}, "unreadable_usage", id="negative"),
        pytest.param(PAGE, {"page": "2"}, "unreadable_usage", id="text"),
        pytest.param(PAGE, {"page": True}, "unreadable_usage", id="bool"),
        pytest.param(PAGE, {"page": float("nan")}, "unreadable_usage", id="nan"),
        pytest.param(PAGE, {}, "0", id="nothing"),
    ],
)
def test_an_operation_comes_to(
    fields: dict[str, Any], usage: dict[str, Any], expected: str
) -> None:
    """Exact, by the provider's own rules, whatever context the application has."""
    with localcontext(Context(prec=2)):
        answer = cost(entry(**fields), usage=usage)

    assert expected == str(answer)


TOKENS: Final = {
    "per": 1_000_000,
    "units": {"input_tokens": "2", "output_tokens": "8", "cache_read_tokens": "0.5"},
}


def test_an_amount_without_counts_is_not_zero() -> None:
    """As a span may tell it alone: a book that finds no counts must not replace it."""
    priced = entry(units={"input_tokens": 1})

    assert cost(priced, usage={}, amount=Decimal(1)) == "unreadable_usage"
    assert cost(priced, usage={"input_tokens": 0}, amount=Decimal(1)) == 0


def test_tokens_that_have_a_price_of_their_own_are_not_charged_twice() -> None:
    """Cached tokens are input tokens, too, and a report counts them in both."""
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 100,
        "prompt_tokens_details": {"cached_tokens": 400},
        "completion_tokens_details": {"reasoning_tokens": 60},
    }

    for provider in ("openai", "somebody-whom-nobody-knows"):
        answer = PriceBook([entry(provider="*", **TOKENS)]).price(
            observe(provider=provider, flavor="chat", usage=usage), AT
        )

        assert isinstance(answer, Price)
        assert Decimal("0.0022") == answer.amount


@pytest.mark.parametrize(
    ("usage", "reason"),
    [
        pytest.param(
            {"input_tokens": 3, "cache_read_tokens": 4},
            "unreadable_usage",
            id="parts-more-than-the-whole",
        ),
        pytest.param(
            {"input_tokens": 3, "web_searches": 1}, "no_unit_price", id="another-thing"
        ),
        pytest.param({"cache_read_tokens": 1}, "unreadable_usage", id="no-whole"),
    ],
)
def test_token_counts_that_make_no_sense_have_no_price(
    usage: dict[str, int], reason: str
) -> None:
    """An absurd report is not money."""
    assert reason == cost(entry(**TOKENS), usage=usage)


# Which entry holds.


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"model": "gpt-4o"}, "1", id="exact"),
        pytest.param({"model": "gpt-4o-mini"}, "2", id="longest-beginning"),
        pytest.param({"model": "gpt-5"}, "3", id="beginning"),
        pytest.param({"model": "o3"}, "4", id="anything"),
        pytest.param({"model": None}, "4", id="no-model"),
        pytest.param({"model": "gpt-4o", "region": "eu-west-1"}, "5", id="region"),
        pytest.param({"model": "gpt-4o", "service_tier": "batch"}, "6", id="tier"),
        pytest.param({"model": "o3", "service_tier": "default"}, "4", id="standard"),
        pytest.param({"model": "o3", "service_tier": "flex"}, "no_entry", id="other"),
        pytest.param({"provider": "another"}, "no_entry", id="provider"),
        pytest.param({"event_type": "cost.else", "model": "o3"}, "7", id="type"),
    ],
)
def test_the_most_special_entry_holds(fields: dict[str, Any], expected: str) -> None:
    """Exact names before beginnings, long ones before short ones."""
    book = PriceBook(
        [
            entry(model="gpt-4o", call=1),
            entry(model="gpt-4o*", call=2),
            entry(model="gpt-*", call=3),
            entry(call=4),
            entry(model="gpt-4o", region="eu-*", call=5),
            entry(model="gpt-4o", service_tier="batch", call=6),
            entry(event_type="cost.else", call=7),
        ]
    )

    answer = book.price(observe(**fields), AT)

    shown = str(answer.amount) if isinstance(answer, Price) else answer.reason
    assert expected == shown


# What goes before what.

CHAT: Final = {
    "provider": "openai",
    "model": "gpt-4o",
    "flavor": "chat",
    "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
}


def charged(folder: Path, text: str, **fields: Any) -> PricedAmount | PriceUnknown:  # noqa: ANN401
    """Return what a client with that book charges."""
    settings = Settings(price_book=written(folder, text))
    return configured_prices(settings).price(observe(**{**CHAT, **fields}), AT)


AGREED: Final = """\
[[price]]
provider = "openai"
model = "gpt-4o"
from = 2026-01-01
call = 7
"""


@pytest.mark.parametrize(
    ("more", "fields", "expected"),
    [
        pytest.param("", {}, ("7", "priced"), id="own-before-public"),
        pytest.param(
            "", {"amount": Decimal(5)}, ("5", "reported"), id="reported-first"
        ),
        pytest.param(
            "override_reported = true",
            {"amount": Decimal(5)},
            ("7", "priced"),
            id="own-overrides",
        ),
        pytest.param(
            "override_reported = true",
            {"amount": Decimal(5), "model": "gpt-4o-mini"},
            ("5", "reported"),
            id="overrides-only-its-own",
        ),
        pytest.param(
            "",
            {"amount": Decimal(5), "provenance": "priced"},
            ("7", "priced"),
            id="own-before-a-tool-s",
        ),
        pytest.param(
            "",
            {"amount": Decimal(5), "provenance": "priced", "model": "gpt-99"},
            ("5", "priced"),
            id="a-tool-s-before-none",
        ),
        pytest.param(
            "", {"model": "gpt-4o-mini"}, ("0.00021", "priced"), id="public-at-last"
        ),
        pytest.param("", {"is_complete": False}, "incomplete", id="incomplete"),
        pytest.param(
            "",
            {"is_complete": False, "amount": Decimal(5), "provenance": "priced"},
            "incomplete",
            id="incomplete-by-a-tool",
        ),
    ],
)
def test_the_order_of_sources(
    tmp_path: Path, more: str, fields: dict[str, Any], expected: tuple[str, str] | str
) -> None:
    """Nothing estimated goes before what is known, and nothing is labelled as more."""
    answer = charged(tmp_path, AGREED + more, **fields)

    if isinstance(answer, PriceUnknown):
        assert expected == answer.reason
    else:
        assert expected == (str(answer.amount), answer.provenance)


def test_with_a_broken_book_nothing_is_priced_by_other_lists(tmp_path: Path) -> None:
    """A list price instead of the agreed one would be wrong, unseen."""
    answer = charged(tmp_path, AGREED + "cal = 8")

    assert isinstance(answer, PriceUnknown)
    assert answer.reason == "price_book"
    assert "prices.toml: price 1 (openai gpt-4o): cal" in answer.message


# What is refused.

A: Final = '[[price]]\nprovider = "a"\nfrom = 2026-01-01\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("price = 3", "price: pass a list of entries", id="no-list"),
        pytest.param("prices = []", "prices: no such field; there are", id="typo"),
        pytest.param("[[price]", "is not TOML", id="no-toml"),
        pytest.param(
            '[[price]]\nprovider = "a"\ncall = 1',
            "price 1 (a): from: Field required",
            id="no-date",
        ),
        pytest.param(A, "price 1 (a): entry: has no price", id="no-price"),
        pytest.param(
            A.replace('"a"', '"a*b"') + "call = 1",
            "provider='a*b': pass a name, or the beginning of one",
            id="pattern",
        ),
        pytest.param(
            A.replace("01-01", "01-01T08:00:00") + "call = 1",
            "has a time without an offset",
            id="naive",
        ),
        pytest.param(
            A + "until = 2025-01-01\ncall = 1", "until: must be later", id="until"
        ),
        pytest.param(
            A + "call = -1",
            "call=-1: Input should be greater than or equal to 0",
            id="negative",
        ),
        pytest.param(
            A + "units.page = {per = 2}",
            "units.page: pass either a price or tiers",
            id="unit-without-price",
        ),
        pytest.param(
            A + "units.page.tiers = [{up_to = 5, price = 1}]",
            "the last has none",
            id="no-last-tier",
        ),
        pytest.param(
            A + "units.page.tiers = "
            "[{up_to = 5, price = 1}, {up_to = 5, price = 2}, {price = 3}]",
            "must grow",
            id="tiers-that-do-not-grow",
        ),
        pytest.param(A + 'call = 1\ncurrency = "usd"', "currency='usd'", id="currency"),
        pytest.param(
            A
            + "call = 1\nuntil = 2027-01-01\n"
            + A.replace("01-01", "12-31")
            + "call = 2",
            "entries #1 and #2 are for the same, a, and both hold on 2026-12-31",
            id="overlap",
        ),
        pytest.param(
            A + "call = 1\n" + A + "call = 1", "both hold on 2026-01-01", id="twice"
        ),
    ],
)
def test_a_mistake_in_a_book_is_told_with_its_place(
    tmp_path: Path, text: str, said: str
) -> None:
    """The author of the line must find it."""
    path = written(tmp_path, text)

    with pytest.raises(ConfigError) as caught:
        PriceBook.load(path)

    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)


def test_a_book_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    """The setting may have a slip in it."""
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        PriceBook.load(tmp_path / "prices.toml")


def test_a_json_book_must_be_an_object(tmp_path: Path) -> None:
    """A bare list has no room for a name and a currency."""
    path = written(tmp_path, json.dumps([]), "prices.json")

    with pytest.raises(ConfigError, match="pass an object"):
        PriceBook.load(path)


def test_the_book_in_the_documentation_is_one(tmp_path: Path) -> None:
    """Readers copy what they see."""
    page = Path(__file__).parents[4] / "docs" / "pricing.md"
    shown = [block.text for block in blocks(page) if block.language == "toml"]

    assert len(PriceBook.load(written(tmp_path, *shown)).entries) == 4
