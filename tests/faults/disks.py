"""Disks that are full or read-only, and folders that vanish."""

from __future__ import annotations

import functools
import resource
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from outlay import Client
from tests.faults.children import Child
from tests.faults.judge import DEADLINE, Judge, judging
from tests.faults.scenario import Scenario
from tests.support.answers import refused
from tests.support.disks import may_mount, remount, small_disk
from tests.support.events import EVENT_TYPE, amount_of, track
from tests.support.journals import KIB
from tests.support.servers import ScriptedServer

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from outlay._client_options import SettingsInput
    from tests.faults.children import Teller
    from tests.faults.scenario import Tally
    from tests.support.servers import Request, Response

_PADDING: Final = "x" * 3000  # bytes: three hundred such events fill the disk


@contextmanager
def _judging_on_small_disk() -> Iterator[tuple[Judge, Path]]:
    with (
        tempfile.TemporaryDirectory(prefix="outlay-faults-") as folder,
        small_disk(Path(folder) / "disk") as disk,
        ScriptedServer() as server,
    ):
        yield Judge(server, disk / "journal"), disk


def _fill(tell: Teller, settings: SettingsInput, first: int, count: int) -> None:
    """Track more than the disk holds; tell of what survives a kill."""
    client = Client(**settings)
    for number in range(first, first + count):
        receipt = client.track_cost(
            EVENT_TYPE,
            amount_of(number),
            customer_id="cus_1",
            operation_id=f"op-{number}",
            data={"padding": _PADDING},
        )
        if receipt.durable:
            tell.tell(number, receipt.idempotency_key)


def _full(chance: random.Random, size: int, *, shipping: bool) -> Tally:
    """Fill the disk, kill who did it, and make room for the adopter."""
    with _judging_on_small_disk() as (judge, disk):
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(chance.randrange(950) * KIB))
        settings = judge.settings(
            shipping="thread" if shipping else "none", batching="always"
        )
        child = Child(judge, _fill, settings, 0, size)
        child.hear_some(chance.randrange(size))
        child.kill(after=chance.random() * 0.03)
        ballast.unlink()
        judge.inherit()
        # Some were in memory only, and their callers were not told.
        return judge.tally(killed=size)


def _full_and_closed(chance: random.Random, size: int) -> Tally:
    """Fill the disk while shipping; what memory had to keep arrives as well."""
    with _judging_on_small_disk() as (judge, disk):
        (disk / "ballast").write_bytes(bytes(chance.randrange(1000) * KIB))
        with judge.client(batching="always") as client:
            for number in range(size):
                judge.tell(number, track(client, number))
            assert client.flush(DEADLINE).complete
        (disk / "ballast").unlink()
        judge.inherit()
        return judge.tally()


def _full_of_refusals(chance: random.Random, size: int) -> Tally:
    """Refuse events for good while there is no room for a dead letter."""
    with _judging_on_small_disk() as (judge, disk):

        def refuse_some(request: Request) -> Response:
            if chance.random() < 0.5:
                return refused(400, message="x" * 400)
            return judge.accept(request)

        judge.server.respond = refuse_some
        with judge.client(batching="never") as client:
            for number in range(size):
                judge.tell(number, track(client, number))
            ballast = disk / "ballast"
            with ballast.open("wb", buffering=0) as file:
                while file.write(bytes(4 * KIB)) == 4 * KIB:
                    if file.tell() > chance.randrange(1000) * KIB:
                        break
            client.flush(DEADLINE)
        ballast.unlink()
        judge.server.respond = judge.accept
        judge.inherit()
        return judge.tally()


def _limited(
    tell: Teller, settings: SettingsInput, count: int, limit_at: int, limit: int
) -> None:
    client = Client(**settings)
    for number in range(count):
        if number == limit_at:
            sys.dont_write_bytecode = True  # else an import could leave one cut short
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        tell.track(client, number)  # durable or not: it lives to ship it
    assert client.close(DEADLINE).complete


def _limit(chance: random.Random, size: int) -> Tally:
    """Let no file of the process grow any more, from one event to the next."""
    with judging() as judge:
        Child(
            judge,
            _limited,
            judge.settings(batching="always"),
            size,
            chance.randrange(size),
            chance.choice([0, 100, 65 * KIB]),
        ).finish()
        judge.inherit()
        return judge.tally()


def _read_only(chance: random.Random, size: int) -> Tally:
    """Leave events on a disk that then may only be read; later it may be written."""
    with _judging_on_small_disk() as (judge, disk):
        settings = judge.settings(shipping="none")
        child = Child(judge, _fill, settings, 0, size // 2)
        child.hear_some(chance.randrange(size // 2))
        child.kill()
        remount(disk, "ro")
        with judge.client(batching="always") as client:
            for number in range(size, 2 * size):
                judge.tell(number, track(client, number))
            client.flush(DEADLINE)
        remount(disk, "rw")
        judge.inherit()
        return judge.tally(killed=1)


def _deleted(chance: random.Random, size: int) -> Tally:
    """Delete the whole folder under a client, twice; it goes on."""
    with judging() as judge:
        with judge.client(batching="always") as client:
            for first in (0, 1000, 2000):
                for number in range(first, first + chance.randint(1, 3 * size)):
                    judge.tell(number, track(client, number))
                # What lies in a deleted file can be out of reach.
                assert client.flush(DEADLINE).complete
                # The client deletes in it, too, and either may come too late.
                shutil.rmtree(judge.journal_dir, ignore_errors=True)
            for number in range(3000, 3000 + size):
                judge.tell(number, track(client, number))
        return judge.tally()


def _no_mount() -> str:
    return "" if may_mount() else "mounting a file system takes root"


SCENARIOS: Final = (
    Scenario(
        "disk full (tmpfs of 1 MiB), and SIGKILL",
        functools.partial(_full, shipping=False),
        size=400,
        needs=_no_mount,
    ),
    Scenario(
        "disk full while shipping, and SIGKILL",
        functools.partial(_full, shipping=True),
        size=400,
        needs=_no_mount,
    ),
    Scenario(
        "disk full, and closed in order", _full_and_closed, size=600, needs=_no_mount
    ),
    Scenario("disk full of refusals", _full_of_refusals, needs=_no_mount),
    Scenario("files may not grow (RLIMIT_FSIZE)", _limit, size=400),
    Scenario("disk turned read-only", _read_only, needs=_no_mount),
    Scenario("folder deleted under a client", _deleted, size=100),
)
