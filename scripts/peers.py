r"""Repeat what the page on peers claims: what arrives after a kill and after an outage.

Each peer tracks the same events, in a process of its own, to a server on this machine
that notes what arrives:

- **Kill**: the process kills itself right after the last call has returned.
- **Outage**: no server listens. The process closes the client and ends as usual.

Then the server listens, and the next process starts: the same program without events.

Install the peers in an environment of their own, and run the script with the
interpreter that has outlay::

    python -m venv peers && peers/bin/pip install langfuse posthog \
        segment-analytics-python opentelemetry-exporter-otlp-proto-http \
        lago-python-client
    python -m scripts.peers peers/bin/python
"""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import zlib
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EVENTS: Final = 200
PATIENCE: Final = 90
"""The seconds after which a process that still tries to send is killed."""

_PROGRAM: Final = """
import os, signal, sys, time
url, count, kill = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "kill"
{setup}
refused = 0
for number in range(count):
    try:
{track}
    except Exception:
        refused += 1
print(refused, flush=True)
if kill:
    os.kill(os.getpid(), signal.SIGKILL)
if not count:
    time.sleep(4)
{close}
"""
"""A program: the address, the number of events, and whether it kills itself."""


@dataclass(frozen=True)
class Peer:
    """A package that reports events, and how its documentation says to use it.

    Attributes:
        package: The name of the distribution.
        setup: The lines that create a client for ``url``.
        track: The lines that report event ``number``.
        close: The lines before a normal end.
    """

    package: str
    setup: str
    track: str
    close: str


PEERS: Final = (
    Peer(
        "outlay",
        "import outlay\noutlay.configure(base_url=url)",
        "outlay.track_cost('cost.ocr', '0.0042', customer_id='cus_1',"
        " operation_id=f'evt-{number}-x')",
        "outlay.close()",
    ),
    Peer(
        "langfuse",
        "from langfuse import Langfuse\n"
        "client = Langfuse(public_key='pk', secret_key='sk', base_url=url)",
        "client.start_observation(name=f'evt-{number}-x', as_type='generation',"
        " model='gpt-4o', cost_details={'total': 0.0042}).end()",
        "client.flush()\nclient.shutdown()",
    ),
    Peer(
        "opentelemetry-sdk",
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import BatchSpanProcessor\n"
        "from opentelemetry.exporter.otlp.proto.http.trace_exporter"
        " import OTLPSpanExporter\n"
        "provider = TracerProvider()\n"
        "provider.add_span_processor(BatchSpanProcessor("
        "OTLPSpanExporter(url + '/v1/traces')))\n"
        "tracer = provider.get_tracer('peer')",
        "tracer.start_span(f'evt-{number}-x').end()",
        "provider.shutdown()",
    ),
    Peer(
        "posthog",
        "from posthog import Posthog\nclient = Posthog('phc_1', host=url)",
        "client.capture(f'evt-{number}-x', distinct_id='cus_1')",
        "client.shutdown()",
    ),
    Peer(
        "segment-analytics-python",
        "from segment.analytics import Client\nclient = Client('key', host=url)",
        "client.track('cus_1', f'evt-{number}-x')",
        "client.shutdown()",
    ),
    Peer(
        "lago-python-client",
        "from lago_python_client.client import Client\n"
        "from lago_python_client.models import Event\n"
        "client = Client(api_key='key', api_url=url)",
        "client.events.create(Event(transaction_id=f'evt-{number}-x',"
        " external_subscription_id='s', code='ocr', timestamp=1793000000))",
        "pass",
    ),
)


class QuietServer(ThreadingHTTPServer):
    """A server that expects its clients to be killed."""

    def handle_error(self, *_: object) -> None:
        """Print nothing."""


@dataclass
class Sink:
    """A server that accepts everything, and notes the events that arrive.

    Attributes:
        port: The port on loopback. 0 takes a free one.
        arrived: The names of the events.
    """

    port: int = 0
    arrived: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._server: ThreadingHTTPServer | None = None

    def open(self) -> None:
        """Listen."""
        arrived = self.arrived

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # a response is one packet

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                text = decompressed(body, self.headers.get("content-encoding", ""))
                names = re.findall(rb"evt-\d+-x", text)
                arrived.update(name.decode() for name in names)
                self._respond(response(self.path, text))

            def do_GET(self) -> None:
                self._respond(b"{}")

            def _respond(self, body: bytes) -> None:
                self.send_response(202 if self.path.startswith("/v0") else 200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self._server = QuietServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()


def decompressed(body: bytes, coding: str) -> bytes:
    """Return a body without its content coding."""
    if coding == "gzip":
        return gzip.decompress(body)
    return zlib.decompress(body) if coding == "deflate" else body


def response(path: str, body: bytes) -> bytes:
    """Return what the peer's service responds with."""
    if path == "/v0/events":
        return json.dumps({**json.loads(body), "object": "event"}).encode()
    if path == "/api/v1/events":
        return json.dumps({"event": {**json.loads(body)["event"], **_LAGO}}).encode()
    return b'{"success": true, "status": 1}'


_LAGO: Final = {
    "lago_id": "1",
    "lago_customer_id": None,
    "lago_subscription_id": None,
    "created_at": "2026-11-30T00:00:00Z",
}


@dataclass(frozen=True)
class Result:
    """What became of the events of one peer.

    Attributes:
        refused: The number of calls that raised. All, if the process was still
            calling after `PATIENCE`.
        arrived: The number of events that arrived before the next process started.
        in_the_end: The number of events that had arrived after it.
    """

    refused: int
    arrived: int
    in_the_end: int


def run(python: str, peer: Peer, *words: str, folder: str) -> str:
    """Run a peer's program to its end or the limit, and return what it printed."""
    program = _PROGRAM.format(
        setup=peer.setup,
        track="\n".join(f"        {line}" for line in peer.track.split("\n")),
        close=peer.close,
    )
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("OUTLAY_")},
        "OUTLAY_JOURNAL_DIR": folder,
        "OTEL_SDK_DISABLED": "false",
    }
    process = subprocess.Popen(
        [python, "-c", program, *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        printed, errors = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        printed, errors = process.communicate()
    if process.returncode not in {0, -signal.SIGKILL}:
        sys.exit(f"{peer.package}: {errors}")
    return printed


def kill(python: str, peer: Peer) -> Result:
    """Kill the process right after the last call."""
    sink = Sink()
    sink.open()
    url = f"http://127.0.0.1:{sink.port}"
    with tempfile.TemporaryDirectory() as folder:
        printed = run(python, peer, url, str(EVENTS), "kill", folder=folder)
        arrived = len(sink.arrived)
        run(python, peer, url, "0", "end", folder=folder)
    sink.close()
    return Result(int(printed or EVENTS), arrived, len(sink.arrived))


def outage(python: str, peer: Peer) -> Result:
    """Let the server be away while the process runs and ends."""
    sink = Sink()
    sink.open()  # to learn a port that is free
    sink.close()
    url = f"http://127.0.0.1:{sink.port}"
    with tempfile.TemporaryDirectory() as folder:
        printed = run(python, peer, url, str(EVENTS), "end", folder=folder)
        arrived = len(sink.arrived)
        sink.open()
        run(python, peer, url, "0", "end", folder=folder)
    sink.close()
    return Result(int(printed or EVENTS), arrived, len(sink.arrived))


def versions(python: str) -> dict[str, str]:
    """Return the versions of the peers that an interpreter has."""
    program = (
        "import json, sys; from importlib.metadata import distributions;"
        "print(json.dumps({d.name: d.version for d in distributions()}))"
    )
    ran = subprocess.run([python, "-c", program], capture_output=True, check=True)
    return dict(json.loads(ran.stdout))


def rows(python: str) -> Iterator[tuple[str, ...]]:
    """Yield a row of the table for each peer that is installed."""
    found = versions(python)
    for peer in PEERS:
        own = peer.package == "outlay"
        version = versions(sys.executable)["outlay"] if own else found.get(peer.package)
        if version is None:
            print(f"{peer.package} is not installed: left out", file=sys.stderr)
            continue
        interpreter = sys.executable if own else python
        killed, away = kill(interpreter, peer), outage(interpreter, peer)
        yield (
            f"{peer.package} {version}",
            f"{killed.arrived}",
            f"{killed.in_the_end}",
            f"{away.refused}",
            f"{away.in_the_end}",
        )


def main(arguments: Sequence[str]) -> None:
    """Print the table in Markdown."""
    (python,) = arguments or [sys.executable]
    print(f"Of {EVENTS} events:")
    print("| package | kill: arrived | after the next start ", end="")
    print("| outage: calls that raised | arrived after the next start |")
    print("|---|---|---|---|---|")
    for row in rows(python):
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
