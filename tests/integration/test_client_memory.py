"""Memory stays bounded, however much waits: what waits is on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.support.processes import run

_EVENTS: Final = 50_000
"""Some 20 MB of them, in segments of 1 MiB."""

_MIB: Final = 1024 * 1024

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/maps").exists(), reason="the system does not tell"
)

# Says by how much the process's own memory and its mapped files have grown, in bytes,
# and how many segments are mapped.
_MEASURE: Final = """
import re

def memory():
    status = open("/proc/self/status").read()
    return [
        1024 * int(re.search(rf"^{name}:\\s+(\\d+) kB", status, re.MULTILINE)[1])
        for name in ("RssAnon", "RssFile")
    ]

def tell(before):
    grown = [now - then for now, then in zip(memory(), before)]
    say(*grown, open("/proc/self/maps").read().count(".seg"))
"""

_OUTAGE: Final = """
class Away:
    def post(self, path, body):
        raise outlay.errors.UnavailableError("away", sent=False)
    def close(self):
        pass

client = outlay.Client(transport=Away)
track(client, 0)
client.flush(0.1)
before = memory()
for number in range(1, events):
    track(client, number)
tell(before)
say(client.stats().pending)
die()
"""

_HEIR: Final = """
from tests.support.answers import stored

class Sink:
    def post(self, path, body):
        return stored(body.count(b'"idempotencyKey"'))
    def close(self):
        pass

client = outlay.Client(transport=Sink, batching="always")
track(client, events)
client.flush(0)
before = memory()
assert client.flush(30).complete
tell(before)
say(client.stats().delivered)
client.close()
"""


@pytest.mark.serial
def test_memory_does_not_grow_with_what_is_pending(tmp_path: Path) -> None:
    """An outage must not become an outage of the application."""
    variables = {"OUTLAY_JOURNAL_DIR": tmp_path, "OUTLAY_SEGMENT_BYTES": _MIB}
    prelude = f"events = {_EVENTS}" + _MEASURE

    outage = run(prelude + _OUTAGE, variables, code=-9).splitlines()
    recovery = run(prelude + _HEIR, variables).splitlines()

    assert (outage[1], recovery[1]) == (str(_EVENTS), str(_EVENTS + 1))
    for line in (outage[0], recovery[0]):
        own, files, mapped = map(int, line.split())
        assert own < 10 * _MIB
        assert files < 5 * _MIB
        assert mapped <= 4
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*/*.seg")) == 0
