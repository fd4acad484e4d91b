"""DSPy: its own engine, and its pools of threads."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import dspy
import pytest

import outlay
from tests.frameworks.concurrently import assert_each_paid, in_tasks, in_threads
from tests.frameworks.fake_providers import gpt_4o

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from outlay.testing import Costs
    from tests.frameworks.fake_providers import FakeProviders


@pytest.fixture
def address(providers: FakeProviders) -> Iterator[str]:
    """Return the address of a server on loopback, in place of OpenAI.

    DSPy's engine opens its connections itself.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            headers, body = providers.respond(self.path, content)
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


@pytest.fixture
def model(address: str, costs: Costs) -> Any:
    """Return a model, captured as OpenAI's."""
    del costs  # captures all packages, before the options of this one
    outlay.instrument("dspy", provider="openai")
    return dspy.LM("openai/gpt-4o", api_base=address, api_key="sk-test", cache=False)


def test_calls_in_threads(model: Any, providers: FakeProviders, costs: Costs) -> None:
    """Through DSPy's own engine."""
    in_threads(providers, lambda number: model(f"cus_{number}"))

    assert_each_paid(costs, gpt_4o)


def test_calls_in_tasks(model: Any, providers: FakeProviders, costs: Costs) -> None:
    """Through the asynchronous twin of the engine."""
    in_tasks(providers, lambda number: model.acall(f"cus_{number}"))

    assert_each_paid(costs, gpt_4o)


def test_its_own_threads(model: Any, providers: FakeProviders, costs: Costs) -> None:
    """``dspy.Parallel`` hands the customer on to its threads."""
    parallel = dspy.Parallel(num_threads=3, disable_progress_bar=True)

    class Ask(dspy.Module):
        def forward(self, who: str) -> Any:
            return model(who)

    with providers.meeting(3), outlay.attribute(customer_id="cus_3"):
        parallel([(Ask(), {"who": "cus_3"}) for _ in range(3)])

    assert costs.total() == costs.total(customer="cus_3") == 3 * gpt_4o(3)


def test_a_server_that_nobody_knows(
    address: str, costs: Costs, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names its host once."""
    model = dspy.LM("openai/m", api_base=address, api_key="sk-test", cache=False)

    for _ in range(2):
        model("cus_1")

    logged = [each for each in caplog.messages if "127.0.0.1 was not captured" in each]
    assert len(logged) == 1
    assert not costs.events


def test_no_text_of_a_call_is_kept(
    address: str, providers: FakeProviders, tmp_path: Path
) -> None:
    """The journal holds numbers and names."""
    providers.texts = ["zqx-response"]
    with outlay.Client(shipping="none", journal_dir=tmp_path) as client:
        outlay.instrument("dspy", provider="openai", client=client)
        model = dspy.LM("openai/gpt-4o", api_base=address, api_key="zqx", cache=False)
        with outlay.attribute(customer_id="cus_1"):
            model("zqx-prompt")
        outlay.uninstrument("dspy")
        files = [each for each in tmp_path.rglob("*") if each.is_file()]
        kept = b"".join(each.read_bytes() for each in files)

    assert b"cost.ai.inference" in kept
    assert b"zqx" not in kept
