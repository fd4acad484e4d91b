"""Hundreds of dead writers, and a process with few descriptors that adopts them."""

from __future__ import annotations

import functools
import json
import resource
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from outlay import Client
from outlay._journal.folders import (
    DestinationFolder,
    WriterFolder,
    destination_name,
)
from outlay._journal.segments import SegmentWriter, create_file
from tests.faults.children import Child
from tests.faults.judge import DEADLINE, KEY, judging
from tests.faults.scenario import Scenario
from tests.support.clock import NOON_MS
from tests.support.events import payload
from tests.support.journals import KIB

if TYPE_CHECKING:
    import random

    from outlay._client_options import SettingsInput
    from tests.faults.children import Teller
    from tests.faults.judge import Judge
    from tests.faults.scenario import Tally

_FILES_OF_THE_APPLICATION: Final = 100


def _leave(judge: Judge, chance: random.Random, count: int) -> None:
    """Leave the folders of so many killed processes, with a few events in each."""
    path = judge.journal_dir / destination_name(judge.server.url, None, KEY)
    DestinationFolder(path).prepare(
        base_url=judge.server.url, namespace=None, now_ms=NOON_MS
    )
    for number in range(count):
        folder = WriterFolder.create(path, NOON_MS + number)
        memory = create_file(folder.segment_path(1), 64 * KIB, NOON_MS)
        writer = SegmentWriter(folder.name, memory, durable=True)
        for event in range(chance.randint(1, 3)):
            body = payload(10 * number + event)
            writer.append(body)
            judge.told[json.loads(body)["idempotencyKey"]] = Decimal("0.01")
        folder.close()


def _ship(_tell: Teller, settings: SettingsInput, reserve: int) -> None:
    """Ship all of it, while the application opens files of its own."""
    opened = len([*Path("/proc/self/fd").iterdir()])
    limit = opened + _FILES_OF_THE_APPLICATION + reserve
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    with Client(**settings) as client:
        files = [
            Path("/dev/null").open("rb")  # noqa: SIM115 - closed below
            for _number in range(_FILES_OF_THE_APPLICATION)
        ]
        report = client.flush(DEADLINE)
        for file in files:
            file.close()
    assert report.complete, report


def _storm(chance: random.Random, size: int, *, reserve: int) -> Tally:
    with judging() as judge:
        _leave(judge, chance, size)
        settings = judge.settings(batching=chance.choice(["never", "always"]))
        Child(judge, _ship, settings, reserve).finish()
        return judge.tally()


SCENARIOS: Final = tuple(
    Scenario(
        f"{size} dead writers, {reserve} descriptors to spare",
        functools.partial(_storm, reserve=reserve),
        trials=trials,
        bounded=1,
        size=size,
    )
    for size, reserve, trials in ((600, 200, 3), (60, 60, 20))
)
