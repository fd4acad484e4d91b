"""Idempotency keys: what they depend on, and the documented bytes they come from."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from outlay._model.events import add_key, decode_event

if TYPE_CHECKING:
    from collections.abc import Callable

    Compose = Callable[..., tuple[str, bytes]]

DOCS = Path(__file__).parents[3] / "docs"
VECTORS: list[dict[str, Any]] = json.loads(
    (DOCS / "idempotency-keys.json").read_text(encoding="utf-8")
)["vectors"]
NODE = shutil.which("node")

each_vector = pytest.mark.parametrize(
    "vector", VECTORS, ids=[vector["name"] for vector in VECTORS]
)


def key_as_documented(
    *,
    source: str,
    event_type: str,
    customer_id: str,
    provider: str,
    line: str,
    operation_id: str,
) -> tuple[str, str]:
    """Follow docs/idempotency-keys.md, with nothing of outlay's own code."""
    data = b""
    for part in ("ok1", source, event_type, customer_id, provider, line):
        data += str(len(part.encode())).encode() + b":" + part.encode() + b","
    data += operation_id.encode()
    return data.hex(), "ok1_" + hashlib.sha256(data).hexdigest()[:40]


@each_vector
def test_the_code_derives_the_documented_key(
    make_compose: Callable[..., Compose], vector: dict[str, Any]
) -> None:
    """Keys are for ever: a release that changes one counts operations twice."""
    parts = dict(vector["parts"])
    given_as = {"text": str, "int": int, "uuid": UUID}[vector["operation_id_given_as"]]
    operation_id = given_as(parts.pop("operation_id"))
    compose = make_compose(source=parts.pop("source"))

    optional = {name: parts.pop(name) or None for name in ("provider", "line")}
    key, body = compose(operation_id=operation_id, **parts, **optional)
    assert key == vector["key"]
    assert decode_event(body).idempotency_key == vector["key"]


@each_vector
def test_the_documented_algorithm_gives_the_documented_key(
    vector: dict[str, Any],
) -> None:
    """The vectors are worth something only if they do not come from the code."""
    assert key_as_documented(**vector["parts"]) == (vector["input_hex"], vector["key"])


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_another_language_derives_the_documented_keys() -> None:
    """The documentation's JavaScript is run as it stands there."""
    page = (DOCS / "idempotency-keys.md").read_text(encoding="utf-8")
    block = re.search(r"```javascript\n(.*?)```", page, re.DOTALL)
    assert block is not None
    program = f"""{block[1]}
        import {{ readFileSync }} from "node:fs";
        const keys = JSON.parse(readFileSync(0, "utf8")).map((p) => deriveKey(
            p.source, p.event_type, p.customer_id, p.provider, p.line, p.operation_id));
        console.log(JSON.stringify(keys));
    """

    answer = subprocess.run(
        [str(NODE), "--input-type=module", "--eval", program],
        input=json.dumps([vector["parts"] for vector in VECTORS]),
        capture_output=True,
        encoding="utf-8",
        timeout=30,
        check=True,
    )
    assert json.loads(answer.stdout) == [vector["key"] for vector in VECTORS]


def test_the_worked_example_is_the_first_vector() -> None:
    """A reader who follows the page by hand must end at its key."""
    page = (DOCS / "idempotency-keys.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| .* \| `(.*)` \| `([0-9a-f ]+)` \|$", page, re.MULTILINE)
    data = b"".join(bytes.fromhex(shown) for _, shown in cells)

    assert data == b"".join(text.encode() for text, _ in cells)
    assert data.hex() == VECTORS[0]["input_hex"]
    assert f"these {len(data)} bytes" in page
    assert f"`{hashlib.sha256(data).hexdigest()}`" in page
    assert f"\n{VECTORS[0]['key']}\n" in page


def test_different_parts_have_different_keys_in_the_vectors() -> None:
    """Two vectors share a key only where the page says so: 42 and "42"."""
    keys = {vector["key"] for vector in VECTORS}
    tuples = {tuple(vector["parts"].values()) for vector in VECTORS}

    assert len(VECTORS) >= 25
    assert len(keys) == len(tuples) == len(VECTORS) - 1


def test_the_vectors_are_ascii() -> None:
    """An editor that composes accents would quietly change what is hashed."""
    assert (DOCS / "idempotency-keys.json").read_bytes().isascii()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("event_type", "cost.other"),
        ("customer_id", "cus_456"),
        ("provider", "openai"),
        ("line", "output"),
        ("operation_id", "job-43"),
    ],
)
def test_what_identifies_an_operation_changes_the_key(
    compose: Compose, field: str, value: str
) -> None:
    """Otherwise one of two real costs would be taken for a repetition."""
    assert compose(**{field: value})[0] != compose()[0]


def test_the_source_changes_the_key(make_compose: Callable[..., Compose]) -> None:
    """Two applications that both number their jobs from 1 stay apart."""
    one, other = make_compose(source="urn:shop"), make_compose(source="urn:crm")

    assert one()[0] != other()[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", "99"),
        ("quantity", 3),
        ("unit", "page"),
        ("operation", "extraction"),
        ("region", "eu-west-1"),
        ("provenance", "reported"),
        ("data", {"model": "claude"}),
    ],
)
def test_what_describes_an_operation_does_not_change_the_key(
    compose: Compose, field: str, value: object
) -> None:
    """A second run may come to another price, and is the same operation still."""
    assert compose(**{field: value})[0] == compose()[0]


def test_the_namespace_does_not_change_the_key(
    make_compose: Callable[..., Compose],
) -> None:
    """Servers recognise keys within a namespace anyway."""
    assert make_compose(namespace="org_1")()[0] == make_compose()()[0]


def test_each_cost_line_of_an_operation_has_its_own_key(compose: Compose) -> None:
    """Input and output tokens of one response are two costs."""
    lines = [None, "input", "output", "cache"]

    assert len({compose(line=line)[0] for line in lines}) == len(lines)


def test_events_between_do_not_disturb_a_key(compose: Compose) -> None:
    """Keys are finished from a shared beginning, which no event may change."""
    first, _ = compose()
    others = [compose(operation_id=f"job-{number}")[0] for number in range(100)]

    assert compose()[0] == first
    assert [compose(operation_id=f"job-{number}")[0] for number in range(100)] == others


def test_an_event_gets_its_key_once(compose: Compose) -> None:
    """A backlog is read by many processes, one after the other."""
    _, body = compose()

    assert add_key(body) == body


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        b"no JSON",
        b"[]",
        b"{}",
        b'{"type":"t","source":"s","subject":"c","data":{"amount":1}}',
        b'{"type":"t","source":"s","subject":"c","data":{"operationId":7}}',
        b'{"type":"t","source":"\xff","subject":"c","data":{"operationId":"7"}}',
        b'{"type":"t","source":"s","data":{"operationId":"7"}}',
    ],
)
def test_what_names_no_operation_stays_what_it_is(payload: bytes) -> None:
    """The server says what is wrong with it; reading must not stop at it."""
    assert add_key(payload) == payload
