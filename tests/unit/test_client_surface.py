"""What the package promises: its names, texts, signatures and imports."""

from __future__ import annotations

import inspect
import types
from typing import TYPE_CHECKING, Final

import pytest

import outlay
from outlay import errors
from outlay._client_options import TrackFields
from tests.support.processes import run

if TYPE_CHECKING:
    from pathlib import Path

_NAMES: Final = """
track_cost Receipt CostEvent
attribute set_customer bind
operation current_operation Operation track_call
instrument uninstrument observe observe_batch
configure default_client flush aflush stats close aclose
Client Settings FlushResult Stats
OutlayError ConfigError InvalidEventError ClosedError
"""


def test_the_public_names_are_these_29_by_topic() -> None:
    """Nothing is public by accident, and nothing promised is missing."""
    public = {
        name
        for name in dir(outlay)
        if not name.startswith("_")
        and not isinstance(getattr(outlay, name), types.ModuleType)
    }

    assert list(outlay.__all__) == _NAMES.split()
    assert len(outlay.__all__) == 29
    assert set(outlay.__all__) == public


@pytest.mark.parametrize("name", outlay.__all__)
def test_everything_public_is_documented(name: str) -> None:
    """A promise that is not written down is none."""
    value = getattr(outlay, name)

    assert inspect.getdoc(value)
    if inspect.isclass(value) and value.__module__.startswith("outlay"):
        for method, function in inspect.getmembers(value, inspect.isfunction):
            ours = function.__module__.startswith("outlay")
            if ours and not method.startswith("_"):
                assert inspect.getdoc(function), method


def test_every_error_that_the_package_shows_is_an_outlay_error() -> None:
    """One except clause must be able to catch them all."""
    shown = {
        name for name in outlay.__all__ if isinstance(getattr(outlay, name), type)
    } & set(errors.__all__)

    assert shown
    assert all(issubclass(getattr(outlay, n), outlay.OutlayError) for n in shown)


def test_the_module_functions_take_what_the_client_takes() -> None:
    """Sugar must not lack, or add, an argument."""
    for name in ("track_cost", "flush", "close", "aflush", "aclose", "stats"):
        function = inspect.signature(getattr(outlay, name))
        method = inspect.signature(getattr(outlay.Client, name))
        assert list(function.parameters) == list(method.parameters)[1:], name
        for parameter in function.parameters.values():
            assert parameter.default == method.parameters[parameter.name].default


def test_the_fields_of_a_cost_have_the_types_of_the_client_s_arguments() -> None:
    """`track_cost` of the module takes them through one TypedDict."""
    method = inspect.signature(outlay.Client.track_cost)
    keywords = {
        name: parameter.annotation
        for name, parameter in method.parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    fields = {
        name: getattr(kind, "__forward_arg__", kind)
        for name, kind in TrackFields.__annotations__.items()
    }

    assert fields == keywords


_IMPORTED: Final = (
    "httpcore",
    "httpx",
    "msgspec",
    "opentelemetry.metrics",
    "opentelemetry.trace",
    "pydantic",
    "tenacity",
)

_NOT_IMPORTED: Final = (
    "genai_prices",
    "jinja2",
    "openai",
    "opentelemetry.sdk",
    "outlay._cli",
    "outlay.server",
    "pytest",
    "starlette",
    "uvicorn",
)


def test_an_import_of_outlay_brings_all_that_tracking_and_shipping_need() -> None:
    """And nothing that only a command, the server or a provider needs."""
    program = f"""
say(*(name for name in {_IMPORTED} if name not in sys.modules))
say(*(name for name in {_NOT_IMPORTED} if name in sys.modules))
"""

    assert run("import sys\n" + program, {}) == "\n\n"


_LISTENING: Final = """
class Listener:
    def __init__(self):
        self.known = {name.partition(".")[0] for name in sys.modules}
        self.heard = set()

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        ours = {*self.known, *sys.stdlib_module_names, "outlay"}
        if top not in ours:
            self.heard.add(f"{threading.current_thread().name}:{name}")

listener = Listener()
sys.meta_path.insert(0, listener)
"""


def test_no_package_is_first_imported_while_costs_are_tracked_and_shipped(
    tmp_path: Path,
) -> None:
    """An application may look at a module while a thread of outlay's imports it."""
    program = """
hooks = dict.fromkeys(("on_drop", "on_dead_letter", "on_delivered"), lambda *_: None)
client = outlay.configure(**hooks)
track(client, 0)
client.flush(0.5)
track(client, 1)
with outlay.operation("cost.op", operation_id=1) as op:
    op.add(1)
outlay.stats()
outlay.close(0.5)
say(*listener.heard)
"""
    variables = {
        "OUTLAY_JOURNAL_DIR": tmp_path,
        "OUTLAY_BASE_URL": "http://127.0.0.1:9",
    }

    assert run(_LISTENING + program, variables) == "\n"


def test_no_package_is_first_imported_while_an_instrumented_client_is_called(
    tmp_path: Path,
) -> None:
    """What capture needs is imported by the call of `instrument`."""
    program = (
        """
import httpx2
from openai import OpenAI

answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
    "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}
transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=answer))
openai = OpenAI(api_key="k", http_client=httpx2.Client(transport=transport))
openai.chat.completions.create(model="gpt-4o-mini", messages=[])
outlay.instrument(openai)
"""
        + _LISTENING
        + """
openai.chat.completions.create(model="gpt-4o-mini", messages=[])
assert outlay.stats().tracked == 1
outlay.close(0.5)
say(*listener.heard)
"""
    )
    variables = {
        "OUTLAY_JOURNAL_DIR": tmp_path,
        "OUTLAY_BASE_URL": "http://127.0.0.1:9",
    }

    assert run(program, variables) == "\n"


def test_a_star_import_brings_the_public_names() -> None:
    """And a name that does not exist is not there."""
    program = """
from outlay import *
say(Client is outlay.Client, hasattr(outlay, "Transprot"), "Transport" in globals())
"""

    assert run(program, {}) == "True False False\n"
