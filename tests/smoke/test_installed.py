"""An installed package works: without extras, and with each of them.

The suite runs against the built wheel (``make lanes``) and, like all others, against
the checkout. ``OUTLAY_TEST_EXTRAS`` names the installed extras. If it is not set, all
are installed.
"""

from __future__ import annotations

import http.server
import importlib
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from decimal import Decimal
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import outlay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay.testing import Costs

pytestmark = pytest.mark.slow

_GIVEN: Final = os.environ.get("OUTLAY_TEST_EXTRAS")
EXTRAS: Final = frozenset(
    ("cli otel pricing server" if _GIVEN is None else _GIVEN).split()
)
DEADLINE: Final = 40  # seconds; only a hang takes that long


def needs(*extras: str) -> pytest.MarkDecorator:
    """Skip the test where none of ``extras`` is installed."""
    return pytest.mark.skipif(
        EXTRAS.isdisjoint(extras), reason=f"needs the extra {' or '.join(extras)}"
    )


def without(*extras: str) -> pytest.MarkDecorator:
    """Skip the test where one of ``extras`` is installed."""
    return pytest.mark.skipif(
        not EXTRAS.isdisjoint(extras), reason=f"the extra {' or '.join(extras)} is here"
    )


class _Server(http.server.BaseHTTPRequestHandler):
    """Accepts every event, and remembers its body."""

    bodies: list[dict[str, Any]]

    def do_POST(self) -> None:
        """Accept an event."""
        size = int(self.headers["Content-Length"])
        self.bodies.append(json.loads(self.rfile.read(size), parse_float=Decimal))
        body = b'{"object": "event"}'
        self.send_response(202)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Print nothing."""


@contextmanager
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Run a server from the standard library; yield its address and its events."""
    bodies: list[dict[str, Any]] = []
    handler = type("Handler", (_Server,), {"bodies": bodies})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}", bodies
        finally:
            running.shutdown()
            thread.join()


def program(
    *words: str, code: int = 0, **variables: object
) -> subprocess.CompletedProcess[str]:
    """Run Python with these ``OUTLAY_*`` variables; check its exit code."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("OUTLAY_")}
    ran = subprocess.run(
        [sys.executable, *words],
        env={**inherited, **{f"OUTLAY_{k}": str(v) for k, v in variables.items()}},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert ran.returncode == code, ran.stderr
    return ran


from_wheel = pytest.mark.skipif(_GIVEN is None, reason="runs against the checkout")


@from_wheel
def test_the_installed_package_is_tested_and_not_the_checkout() -> None:
    """A suite that imports the checkout says nothing about the wheel."""
    assert Path(outlay.__file__).is_relative_to(sys.prefix)


@from_wheel
def test_an_index_shows_where_the_project_lives() -> None:
    """Without links, a package index leads to no documentation."""
    links = metadata.metadata("outlay").get_all("Project-URL") or []

    assert {link.partition(",")[0] for link in links} == {
        "Homepage",
        "Documentation",
        "Changelog",
        "Issues",
    }


def test_an_event_arrives_with_its_exact_amount(tmp_path: Path) -> None:
    """The core needs no extra."""
    with server() as (url, bodies):
        client = outlay.Client(base_url=url, journal_dir=tmp_path, linger=0)
        client.track_cost(
            "cost.ai", "0.10000000000000000001", customer_id="cus_1", operation_id="1"
        )
        assert client.flush(timeout=DEADLINE).complete
        client.close()

    (body,) = bodies
    assert body["data"]["amount"] == Decimal("0.10000000000000000001")
    assert body["idempotencyKey"].startswith("ok1_")


def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    """Journal, locks and adoption work on the installed versions."""
    killed = """
import os, signal, outlay
outlay.track_cost("cost.ai", "0.25", customer_id="cus_1", operation_id="1")
os.kill(os.getpid(), signal.SIGKILL)
"""
    adopter = "import outlay; assert outlay.flush(timeout=30).complete"
    with server() as (url, bodies):
        settings: dict[str, Any] = {"JOURNAL_DIR": tmp_path, "BASE_URL": url}
        program("-c", killed, code=-9, SHIPPING="none", **settings)
        program("-c", adopter, **settings)

    assert [body["data"]["amount"] for body in bodies] == [Decimal("0.25")]


def test_the_pytest_plugin_is_registered(costs: Costs) -> None:
    """The fixture comes with the package, without an import."""
    outlay.track_cost("cost.ai", "0.5", customer_id="cus_1", operation_id="1")

    costs.assert_total("0.5", customer="cus_1")


def test_the_command_line_answers() -> None:
    """Scripts need no extra."""
    assert metadata.version("outlay") in program("-m", "outlay", "--version").stdout


def _journal(tmp_path: Path, *words: str, code: int = 0) -> str:
    settings: dict[str, Any] = {"JOURNAL_DIR": tmp_path, "SHIPPING": "none"}
    track = "import outlay; outlay.track_cost('cost.ai', '0.5', customer_id='cus_1')"
    program("-c", track, **settings)
    ran = program("-m", "outlay", "journal", *words, code=code, **settings)
    return ran.stdout + ran.stderr


def test_the_journal_is_shown_as_json_without_an_extra(tmp_path: Path) -> None:
    """Scripts read JSON on every machine."""
    assert "0.5" in _journal(tmp_path, "list", "--json")


@needs("cli", "server")
def test_the_journal_is_shown_as_a_table(tmp_path: Path) -> None:
    """The extra ``cli`` brings the tables."""
    assert "cus_1" in _journal(tmp_path, "list")


@without("cli", "server")
def test_a_table_without_the_extra_says_what_to_install(tmp_path: Path) -> None:
    """A traceback would tell its reader nothing."""
    assert "install '.[cli]'" in _journal(tmp_path, "list", code=2)


@needs("server")
def test_costs_travel_from_the_client_to_the_reference_server(tmp_path: Path) -> None:
    """The extra ``server`` brings a server that adds up exactly."""
    module = importlib.import_module("outlay.server")
    settings = module.ServerSettings(port=0, database=":memory:", api_key="sk_test")
    with module.BackgroundServer(settings) as running:
        key = tmp_path / "key"
        key.write_text("sk_test")
        at = ["--base-url", running.url, "--api-key-file", str(key)]
        metric = ["metrics", "create", "AI", "--event-type", "cost.ai"]
        track = ["track", "cost.ai", "0.0042", "--customer", "cus_1"]
        program("-m", "outlay", *metric, *at)
        program("-m", "outlay", *track, *at, JOURNAL_DIR=tmp_path)
        shown = program("-m", "outlay", "costs", *at).stdout

    assert "0.0042" in shown


@without("server")
def test_a_server_without_the_extra_says_what_to_install() -> None:
    """A traceback would tell its reader nothing."""
    assert "install '.[server]'" in program("-m", "outlay", "serve", code=2).stderr


@needs("otel")
def test_spans_become_costs(costs: Costs) -> None:
    """The extra ``otel`` brings the SDK that calls the processor."""
    trace = importlib.import_module("opentelemetry.sdk.trace")
    otel = importlib.import_module("outlay.otel")
    provider = trace.TracerProvider()
    provider.add_span_processor(otel.CostSpanProcessor())
    span = provider.get_tracer("test").start_span("chat")
    span.set_attributes(
        {
            "gen_ai.provider.name": "openai",
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.response.model": "gpt-4o-2024-08-06",
            "gen_ai.response.id": "chatcmpl-1",
            "gen_ai.usage.input_tokens": 1000,
            "gen_ai.usage.output_tokens": 100,
        }
    )
    with outlay.attribute(customer_id="cus_1"):
        span.end()

    assert len(costs.events) + len(costs.unpriced) == 1


def _observe_response() -> None:
    response = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1795176000,
        "model": "gpt-4o-2024-08-06",
        "choices": [],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
    }
    with outlay.attribute(customer_id="cus_1"):
        outlay.observe(
            response, provider="openai", endpoint="POST /v1/chat/completions"
        )


@needs("pricing")
def test_reported_usage_has_a_list_price(costs: Costs) -> None:
    """The extra ``pricing`` brings the list."""
    _observe_response()

    assert costs.total(provider="openai") > 0


@without("pricing")
def test_reported_usage_without_a_list_waits_for_a_price(costs: Costs) -> None:
    """A price is never guessed."""
    _observe_response()

    assert len(costs.unpriced) == 1
