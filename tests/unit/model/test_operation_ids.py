"""Operation ids: text, whole numbers and UUIDs, and nothing that changes per run."""

from __future__ import annotations

import enum
from collections.abc import Callable
from uuid import UUID

import pytest

from outlay._model.events import decode_event
from outlay.errors import InvalidEventError

Compose = Callable[..., tuple[str, bytes]]

A_UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


class Job(int, enum.Enum):
    """An enumeration that is a number, yet prints as something else."""

    FIRST = 42


class Name(str, enum.Enum):  # noqa: UP042 - unlike StrEnum, this prints as Name.FIRST
    """An enumeration that is text, yet prints as something else."""

    FIRST = "42"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        pytest.param(42, "42", id="int"),
        pytest.param(-7, "-7", id="negative"),
        pytest.param(2**80 + 1, "1208925819614629174706177", id="beyond-64-bits"),
        pytest.param(UUID(A_UUID), A_UUID, id="uuid"),
        pytest.param(Job.FIRST, "42", id="int-enum"),
        pytest.param(Name.FIRST, "42", id="str-enum"),
    ],
)
def test_an_id_that_is_no_text_equals_its_text(
    compose: Compose, given: object, text: str
) -> None:
    """One job keeps one key whether its id was read from a URL or from a database."""
    assert compose(operation_id=given) == compose(operation_id=text)
    assert decode_event(compose(operation_id=given)[1]).data["operationId"] == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("x" * 1024, id="longest"),
        pytest.param('a "quoted" id', id="quotes"),
        pytest.param("a\\path", id="backslash"),
        pytest.param(" spaces around ", id="spaces-around"),
        pytest.param("\U0001f469\u200d\U0001f52c", id="joined-emoji"),
    ],
)
def test_text_arrives_as_it_was_given(compose: Compose, text: str) -> None:
    """The id is what finance and the provider's invoice are compared by."""
    _, payload = compose(operation_id=text)

    assert decode_event(payload).data["operationId"] == text


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        pytest.param("", "must not be blank", id="empty"),
        pytest.param("   ", "must not be blank", id="blank"),
        pytest.param("x" * 1025, "has 1025 characters, 1024 are allowed", id="long"),
        pytest.param(10**2000, "has 2001 characters, 1024 are allowed", id="long-int"),
        pytest.param(10**5000, "has too many digits", id="unprintable-int"),
        pytest.param("a\nb", "remove the control characters", id="control"),
        pytest.param("a\udc00", "is not Unicode text (lone surrogate)", id="surrogate"),
        pytest.param(True, "pass a str, not bool", id="bool"),
        pytest.param(1.5, "pass a str, not float", id="float"),
        pytest.param(b"42", "pass a str, not bytes", id="bytes"),
    ],
)
def test_an_unfit_id_is_refused(compose: Compose, given: object, remedy: str) -> None:
    """An id that cannot identify would merge operations, or count them twice."""
    with pytest.raises(InvalidEventError, match=r"^operation_id=") as caught:
        compose(operation_id=given)

    assert caught.value.remedy == remedy


def test_without_an_id_each_event_has_a_random_key(compose: Compose) -> None:
    """Two costs without an id are two costs, even if all else is equal.

    The key comes from the operating system each time, so that forked children and
    restored snapshots of a machine do not repeat it.
    """
    keys = {compose(operation_id=None)[0] for _ in range(1000)}

    assert len(keys) == 1000
    assert all(key.startswith("okr_") and len(key) == 36 for key in keys)


def test_without_an_id_none_is_sent(compose: Compose) -> None:
    """A made-up operation id would look like one that can be looked up."""
    key, payload = compose(operation_id=None)

    event = decode_event(payload)
    assert "operationId" not in event.data
    assert event.idempotency_key == key
