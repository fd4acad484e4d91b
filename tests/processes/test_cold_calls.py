"""Calls of provider libraries in a cold process do not meet half-imported modules.

A library may look at modules that others have imported: openai asks for
``sys.modules["httpx"]``. If outlay imported such a module on a thread of its own, a
call at that moment would find half of it, and fail.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.processes import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_COMPLETION: Final = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_767_225_600,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "yes"},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
}

_PROGRAM: Final = """
import json, traceback
from openai import OpenAI

options = {{}}
if {fake}:
    import httpx2
    answer = json.loads(os.environ["COMPLETION"])
    options["http_client"] = httpx2.Client(transport=httpx2.MockTransport(
        lambda request: httpx2.Response(200, json=answer)))
openai = OpenAI(api_key="k", base_url=os.environ["PROVIDER"], max_retries=0, **options)
outlay.instrument(openai, provider="openai")
barrier = threading.Barrier(8)
failures = []

def work():
    barrier.wait()
    for _ in range({calls}):
        try:
            openai.chat.completions.create(
                model="gpt-4o-mini", messages=[{{"role": "user", "content": "?"}}])
        except Exception:
            failures.append(traceback.format_exc(limit=-3))

threads = [threading.Thread(target=work) for _ in range(8)]
for each in threads:
    each.start()
for each in threads:
    each.join()
assert outlay.stats().tracked
say(len(failures), *failures[:1])
os._exit(0)
"""


class _Provider(BaseHTTPRequestHandler):
    """Answers chat completions, and takes events as an outlay server does."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        chat = self.path.endswith("/chat/completions")
        body = json.dumps(_COMPLETION if chat else {}).encode()
        self.send_response(200 if chat else 503)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def provider() -> Iterator[str]:
    """The address of a provider on loopback, which serves as outlay's server too."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Provider)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fake", "calls", "starts"),
    [(False, 12, 3), (True, 40, 3)],
    ids=["loopback", "fake"],
)
def test_eight_threads_call_an_instrumented_client_from_a_cold_process(
    fake: bool,  # noqa: FBT001 - a parameter of the test
    calls: int,
    starts: int,
    provider: str,
    tmp_path: Path,
) -> None:
    """While the first events are shipped, no call of the application fails."""
    program = _PROGRAM.format(fake=fake, calls=calls)
    variables = {
        "OUTLAY_JOURNAL_DIR": tmp_path / "journal",
        "OUTLAY_BASE_URL": provider,
        "PROVIDER": f"{provider}/v1",
        "COMPLETION": json.dumps(_COMPLETION),
    }
    for _ in range(starts):
        assert run(program, variables) == "0\n"


def test_a_library_that_another_thread_is_importing_is_instrumented(
    tmp_path: Path,
) -> None:
    """What is imported by half has no functions yet that could be observed."""
    (tmp_path / "openai.py").write_text(_HALF)
    program = f"""
import importlib
sys.path.insert(0, {str(tmp_path)!r})
half, rest = threading.Event(), threading.Event()
sys.half, sys.rest = half, rest
thread = threading.Thread(target=importlib.import_module, args=("openai",))
thread.start()
assert half.wait(20)
from outlay._capture.instrumentation.import_hook import when_imported
threading.Timer(0.1, rest.set).start()
when_imported("openai", lambda: say(sys.modules["openai"].Client))
thread.join()
"""

    assert run(program, {"OUTLAY_JOURNAL_DIR": tmp_path}) == "there\n"


_HALF: Final = """
import sys
sys.half.set()
sys.rest.wait(20)
Client = "there"
"""


def test_an_import_finds_its_module_while_instrumenting_ends(tmp_path: Path) -> None:
    """Python goes through its list of finders: nothing may be taken out meanwhile."""
    program = """
from importlib.machinery import PathFinder
from outlay._capture.instrumentation import import_hook

import_hook.when_imported("openai", print)

class Cancels:
    def find_spec(self, name, path=None, target=None):
        import_hook.cancel("openai")

sys.meta_path.insert(sys.meta_path.index(PathFinder), Cancels())
import tabnanny
say(tabnanny.__name__)
"""

    assert run(program, {"OUTLAY_JOURNAL_DIR": tmp_path}) == "tabnanny\n"


_PLUGIN: Final = """
built = []

class Plugin:
    def new_schema_validator(
        self, schema, schema_type, path, kind, config, plugin_settings
    ):
        built.append(f"{path.module}.{path.name}")
        return None, None, None

plugin = Plugin()
"""

_TRACKED: Final = """
@outlay.track_call("cost.lookup", provider="clearbit", quantity=2, unit="look-ups")
def call():
    return {"id": "1"}
"""

_CAPTURED: Final = """
import httpx2, json, openai
answer = json.loads(os.environ["COMPLETION"])
client = openai.OpenAI(api_key="k", http_client=httpx2.Client(
    transport=httpx2.MockTransport(lambda _: httpx2.Response(200, json=answer))))
outlay.instrument(client)

def call():
    client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "?"}])
"""

_LOOK: Final = """
import a_plugin
assert any(name.startswith("outlay.") for name in a_plugin.built)
a_plugin.built.clear()
with outlay.attribute(customer_id="cus_1"):
    call()
assert outlay.stats().tracked + outlay.stats().unpriced
say([name for name in a_plugin.built if name.startswith("outlay.")])
os._exit(0)
"""


@pytest.mark.parametrize("set_up", [_TRACKED, _CAPTURED], ids=["function", "provider"])
def test_no_plugin_of_pydantic_runs_in_a_captured_call(
    set_up: str, tmp_path: Path
) -> None:
    """A plugin is the code of others. It runs when capture is set up."""
    (tmp_path / "a_plugin.py").write_text(_PLUGIN)
    metadata = tmp_path / "a_plugin-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: a-plugin\n")
    (metadata / "entry_points.txt").write_text("[pydantic]\nit = a_plugin:plugin\n")
    variables = {
        "OUTLAY_JOURNAL_DIR": tmp_path / "journal",
        "OUTLAY_SHIPPING": "none",
        "PYTHONPATH": tmp_path,
        "PYDANTIC_DISABLE_PLUGINS": "logfire-plugin",  # it takes half a second
        "COMPLETION": json.dumps(_COMPLETION),
    }

    assert run(set_up + _LOOK, variables) == "[]\n"
