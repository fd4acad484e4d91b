"""The caller's data is JSON, arrives unchanged, and cannot pose as outlay's own."""

from __future__ import annotations

import enum
import types
from collections import OrderedDict, UserDict
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from outlay._model.event_rules import MAX_EVENT_BYTES
from outlay._model.events import decode_event
from outlay.errors import InvalidEventError

Compose = Callable[..., tuple[str, bytes]]


class Level(enum.Enum):
    """An enumeration whose members are no JSON."""

    HIGH = "high"


class Name(str, enum.Enum):  # noqa: UP042 - unlike StrEnum, this prints as Name.FIRST
    """An enumeration whose members are text."""

    FIRST = "first"


class Ratio(float):
    """A float subclass, such as numpy's float64."""


class Safe(str):
    """A str subclass, such as a template engine's safe text."""

    __slots__ = ()


class Masked(str):
    """A str subclass that prints as something else."""

    __slots__ = ()

    def __str__(self) -> str:
        return "***"


class Count(int):
    """An int subclass."""


class Price(Decimal):
    """A Decimal subclass."""


def nested(levels: int) -> object:
    """Return 1 in ``levels`` lists."""
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


CARRIED = {
    "text": ("claude", '"claude"'),
    "quotes": ('a "b" \\', '"a \\"b\\" \\\\"'),
    "null": (None, "null"),
    "booleans": ([True, False], "[true,false]"),
    "int-beyond-64-bits": (-(2**70), "-1180591620717411303424"),
    "decimal": (Decimal("0.10"), "0.10"),
    "float": (0.1, "0.1"),
    "list-of-mappings": ([{"a": [1, {"b": None}]}], '[{"a":[1,{"b":null}]}]'),
    "tuple": ((1, "a"), '[1,"a"]'),
    "str-enum": (Name.FIRST, '"first"'),
    "str-subclass": (Safe("<b>"), '"<b>"'),
    "str-that-prints-otherwise": (Masked("x"), '"x"'),
    "float-subclass": (Ratio(0.25), "0.25"),
    "int-subclass": (Count(3), "3"),
    "decimal-subclass": (Price("0.10"), "0.10"),
    "read-only-mapping": (types.MappingProxyType({"a": 1}), '{"a":1}'),
    "user-mapping": ([UserDict({"a": Ratio(1.5)})], '[{"a":1.5}]'),
    "deepest": (nested(62), "[" * 62 + "1" + "]" * 62),
}


@pytest.mark.parametrize(("value", "sent"), CARRIED.values(), ids=CARRIED.keys())
def test_json_arrives_as_it_was_given(
    compose: Compose, value: object, sent: str
) -> None:
    """What is grouped and looked up by must be what the application said."""
    _, payload = compose(data={"x": value})

    beginning = b'"data":{"provenance":"manual","amount":0.0042,"operationId":"job-42",'
    assert beginning + b'"x":' + sent.encode() + b'},"timestamp":' in payload


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({"model": "m"}, id="dict"),
        pytest.param(OrderedDict(model="m"), id="ordered-dict"),
        pytest.param(UserDict(model="m"), id="user-dict"),
        pytest.param(types.MappingProxyType({"model": "m"}), id="read-only"),
        pytest.param({Name.FIRST: 1, "model": "m"}, id="enum-of-str-as-name"),
    ],
)
def test_any_mapping_will_do(compose: Compose, data: object) -> None:
    """Frozen and layered mappings are how careful applications share constants."""
    _, payload = compose(data=data)

    assert decode_event(payload).data["model"] == "m"


@pytest.mark.parametrize("data", [None, {}, types.MappingProxyType({})])
def test_no_data_leaves_a_sound_event(compose: Compose, data: object) -> None:
    """An empty mapping is what an optional argument often is."""
    _, payload = compose(data=data)

    assert decode_event(payload).data.keys() == {"provenance", "amount", "operationId"}


NOT_JSON = {
    "nan": (float("nan"), "data.x", "is not JSON (float); convert it first"),
    "infinity": (float("inf"), "data.x", "is not JSON (float); convert it first"),
    "nan-subclass": (Ratio("nan"), "data.x", "is not JSON (Ratio); convert it first"),
    "nan-in-lists": (
        [[1, float("nan")]],
        "data.x[0][1]",
        "is not JSON (float); convert it first",
    ),
    "decimal-nan-in-mapping": (
        {"y": Decimal("NaN")},
        "data.x.y",
        "is not JSON (Decimal); convert it first",
    ),
    "set": ({1}, "data.x", "is not JSON (set); convert it first"),
    "bytes": ([b"a"], "data.x[0]", "is not JSON (bytes); convert it first"),
    "datetime": (
        datetime(2026, 1, 1, tzinfo=UTC),
        "data.x",
        "is not JSON (datetime); convert it first",
    ),
    "uuid": (UUID(int=1), "data.x", "is not JSON (UUID); convert it first"),
    "enum": (Level.HIGH, "data.x", "is not JSON (Level); convert it first"),
    "int-of-thousands-of-digits": (
        10**5000,
        "data",
        "cannot be sent: Exceeds the limi",
    ),
    "object": (object(), "data.x", "is not JSON (object); convert it first"),
    "iterator": (iter([1]), "data.x", "is not JSON (list_iterator); convert"),
    "number-as-name": ({1: 2}, "data.x", "JSON names must be str"),
    "none-as-name": ([{None: 2}], "data.x[0]", "JSON names must be str"),
    "too-deep": (nested(63), "data.x" + "[0]" * 63, "is nested over 64 levels"),
    "surrogate": ("a\ud800", "data", "holds text that is not Unicode (lone"),
    "surrogate-inside": (
        [{"y": "\udc00"}],
        "data",
        "holds text that is not Unicode (lone",
    ),
    "surrogate-in-name": (
        {"\ud800": 1},
        "data",
        "holds text that is not Unicode (lone",
    ),
}


@pytest.mark.parametrize(
    ("value", "field", "remedy"), NOT_JSON.values(), ids=NOT_JSON.keys()
)
def test_what_is_not_json_is_refused_by_its_place(
    compose: Compose, value: object, field: str, remedy: str
) -> None:
    """Encoders turn NaN into null and sets into lists without a word: we do not."""
    with pytest.raises(InvalidEventError) as caught:
        compose(data={"fine": 1, "x": value})

    shown = caught.value.field
    assert shown == field or (shown.endswith("…") and field.startswith(shown[:-1]))
    assert caught.value.remedy.startswith(remedy)


def test_data_that_contains_itself_is_refused(compose: Compose) -> None:
    """An endless structure must not end in a stack overflow."""
    endless: dict[str, object] = {}
    endless["self"] = [endless]

    with pytest.raises(InvalidEventError, match="is nested over 64 levels"):
        compose(data=endless)


def test_the_place_in_the_error_is_shortened(compose: Compose) -> None:
    """Names may be documents; the error goes into a log line."""
    with pytest.raises(InvalidEventError) as caught:
        compose(data={"n" * 100_000: {"m" * 100_000: {1, 2}}})

    assert len(str(caught.value)) < 300
    assert caught.value.field.startswith("data.nnn")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param([("a", 1)], id="pairs"),
        pytest.param("model", id="text"),
        pytest.param(3, id="number"),
    ],
)
def test_data_must_be_a_mapping(compose: Compose, data: object) -> None:
    """Dimensions are looked up by name."""
    with pytest.raises(InvalidEventError, match=r"^data=.*pass a mapping of str to"):
        compose(data=data)


@pytest.mark.parametrize("name", [1, None, ("a",), b"a"])
def test_names_must_be_text(compose: Compose, name: object) -> None:
    """JSON has no other names; 1 and "1" would become one."""
    with pytest.raises(InvalidEventError, match="JSON names must be str"):
        compose(data={name: 1})


@pytest.mark.parametrize(
    "name",
    [
        "amount",
        "quantity",
        "operationId",
        "provider",
        "operation",
        "region",
        "line",
        "unit",
        "provenance",
    ],
)
def test_names_that_outlay_writes_itself_are_refused(
    compose: Compose, name: str
) -> None:
    """A second ``amount`` in the data would decide what the cost is."""
    with pytest.raises(InvalidEventError) as caught:
        compose(data={name: "999"})

    assert caught.value.field == f"data.{name}"
    assert caught.value.remedy == "is outlay's own; use the argument, or rename"


def test_inside_of_the_data_every_name_is_free(compose: Compose) -> None:
    """Only the top level is shared with outlay."""
    _, payload = compose(data={"invoice": {"amount": 3}})

    assert decode_event(payload).data["invoice"] == {"amount": 3}


def test_an_event_of_exactly_256_kib_is_taken(compose: Compose) -> None:
    """The limit is on the bytes that are sent: name and number are documented."""
    overhead = len(compose(data={"x": ""})[1])

    _, payload = compose(data={"x": "y" * (MAX_EVENT_BYTES - overhead)})
    assert len(payload) == MAX_EVENT_BYTES == 262_144


@pytest.mark.parametrize("character", ["y", "\U0001f9fe", '"'])
def test_a_larger_event_is_refused(compose: Compose, character: str) -> None:
    """Bytes count, not characters: what is escaped or beyond ASCII takes more."""
    overhead = len(compose(data={"x": ""})[1])
    each = len(compose(data={"x": character})[1]) - overhead
    too_many = (MAX_EVENT_BYTES - overhead) // each + 1

    with pytest.raises(
        InvalidEventError, match=r"^data=.* 262144 are allowed"
    ) as caught:
        compose(data={"x": character * too_many})

    assert len(str(caught.value)) < 250
