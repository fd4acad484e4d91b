"""Money neither disappears nor doubles, whatever happens in whatever order.

Random steps drive real clients on a real folder against a model of the service: track,
ship, lose a request or its answer, refuse, crash, restart, fork, fill the folder or the
disk, corrupt a frame, step the clock, change the destination. After each step the books
must balance, by what lies on the disk and not by what the clients say of it alone.

``OUTLAY_HYPOTHESIS=full`` runs long, and ``make faults`` does, too.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import tempfile
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from outlay import Client
from outlay._journal.folders import destination_name
from outlay._journal.frames import FRAME_HEADER_BYTES
from outlay._journal.segments import iter_unsettled
from outlay._model.events import decode_event
from outlay._model.settings import DEFAULT_BASE_URL
from tests.support.clock import HOUR, ManualClock
from tests.support.events import assert_conserved
from tests.support.journals import KIB
from tests.support.servers import BATCH_PATH
from tests.support.service import FATES, WINDOW, Service, take_all
from tests.support.stepwise import Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from outlay import Receipt
    from outlay._journal.frames import Frame
    from outlay.transport import TransportResponse
    from tests.support.events import Batching
    from tests.support.service import Fate

_DESTINATIONS: Final = ("sk_test_1", "sk_test_2")
_TYPES: Final = ("cost.a", "cost.b")
_MOST_PROCESSES: Final = 3
_TICK: Final = 0.001  # seconds; no two folders are made in one: names sort by age
_PADDING: Final = 20_000  # bytes: three such events fill a segment, twelve the folder

_BOUNDED: Final = settings(
    max_examples=100,  # `make faults` takes longer walks, and others each time
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
FULL: Final = settings(
    _BOUNDED,
    max_examples=5000,
    stateful_step_count=80,
    derandomize=False,
    print_blob=True,
)
"""Takes minutes, and no two runs take the same steps."""


class Operation(NamedTuple):
    """What a cost is tracked for."""

    number: int
    credential: str
    event_type: str
    amount: Decimal


class Books(RuleBasedStateMachine):
    """The steps, and what must hold after each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.services = {name: Service(self.clock) for name in _DESTINATIONS}
        self.processes: list[Process] = []
        self.told: dict[str, Operation] = {}  # of what is tracked, by key
        self.kept = 0  # appends that anybody was told of; a key may have several
        self.durable: set[str] = set()  # keys that are on the disk
        self.fragile: defaultdict[str, set[Process]] = defaultdict(set)  # in memory
        self.forgone = 0  # appends that died in the memory of a process, as announced
        self.ended: Counter[str] = Counter()  # outcomes decided by processes that ended
        self.corrupted: dict[str, int] = {}  # how many of its frames, by key
        self.rerun: set[str] = set()
        self.excused: set[str] = set()
        self.clock_is_sound = True
        self.set_back = 0.0  # seconds, in steps that time synchronisation makes
        self._started_at = self.clock.monotonic()
        self._numbers = itertools.count()
        self._folder = tempfile.TemporaryDirectory(prefix="outlay-conservation-")
        self.folder = Path(self._folder.name)

    def teardown(self) -> None:
        """Everything ends well: the servers are up, and the next processes deliver."""
        try:
            for process in [*self.processes]:
                self._end(process)
            for credential in _DESTINATIONS:
                self._deliver_all(credential)
            self.books_balance()
            self.nothing_is_counted_twice()
            assert list(self.folder.glob("*/*/*.seg")) == []
        finally:
            for process in self.processes:
                process.crash()
            self._folder.cleanup()

    def _deliver_all(self, credential: str) -> None:
        process = self._start(credential, "always")
        process.adopt()
        for _ in range(3):  # what parks once more is tried again an hour later
            process.ship(self._wire(process, take_all))
            self.clock.advance(HOUR + 1)
        stats = process.client.stats()
        assert (stats.pending, stats.parked) == (0, 0), stats
        self.close_in_order(process)

    # Steps.

    @initialize(
        batching=st.sampled_from(["always", "never"]), clock_is_sound=st.booleans()
    )
    def begin(self, batching: Batching, *, clock_is_sound: bool) -> None:
        """There is always a process to begin with."""
        self._start(_DESTINATIONS[0], batching)
        self.clock_is_sound = clock_is_sound

    @precondition(lambda self: len(self.processes) < _MOST_PROCESSES)
    @rule(
        credential=st.sampled_from(_DESTINATIONS),
        batching=st.sampled_from(["always", "never"]),
        adopts=st.booleans(),
    )
    def start(self, credential: str, batching: Batching, *, adopts: bool) -> None:
        """Start a process, perhaps for another destination, on the same folder."""
        process = self._start(credential, batching)
        if adopts:
            process.adopt()

    @precondition(lambda self: self.processes)
    @rule(
        data=st.data(),
        amount=st.integers(0, 10**9).map(lambda units: Decimal(units).scaleb(-6)),
        event_type=st.sampled_from(_TYPES),
        count=st.integers(1, 6),
        large=st.booleans(),
        full_disk=st.sampled_from([False, False, False, True]),
    )
    def track(
        self,
        data: st.DataObject,
        amount: Decimal,
        event_type: str,
        count: int,
        *,
        large: bool,
        full_disk: bool,
    ) -> None:
        """Track some costs; large ones fill the folder soon."""
        process = self._one(data)
        with _full_disk() if full_disk else contextlib.nullcontext():
            for number in itertools.islice(self._numbers, count):
                operation = Operation(number, process.credential, event_type, amount)
                self._track(process, operation, large=large)

    @precondition(lambda self: self.processes and self.told)
    @rule(data=st.data())
    def track_again(self, data: st.DataObject) -> None:
        """Run an operation again, perhaps elsewhere: it is the same cost."""
        key = data.draw(st.sampled_from(sorted(self.told)))
        process = self._one(data)
        if self.told[key].credential == process.credential:
            self.rerun.add(key)
            self._track(process, self.told[key], large=False)

    @precondition(lambda self: self.processes)
    @rule(data=st.data(), count=st.integers(1, 3))
    def fork(self, data: st.DataObject, count: int) -> None:
        """Fork a real child, which tracks with the inherited client and vanishes."""
        process = self._one(data)
        self.clock.advance(_TICK)
        numbers = list(itertools.islice(self._numbers, count))
        operations = [
            Operation(number, process.credential, _TYPES[0], Decimal(number))
            for number in numbers
        ]
        for key, operation in _track_in_child(process, operations):
            self._told_of(key, operation)
            self.durable.add(key)

    @precondition(lambda self: self.processes)
    @rule(data=st.data(), outcomes=st.lists(st.sampled_from(sorted(FATES)), max_size=6))
    def ship(self, data: st.DataObject, outcomes: list[str]) -> None:
        """Make some requests, each with a outcome of its own; then all goes well."""
        process = self._one(data)
        for name in (*outcomes, "taken"):
            self._ship_one(process, FATES[name])

    @precondition(lambda self: self.processes)
    @rule(
        data=st.data(),
        hours=st.lists(st.sampled_from([0, 7, 22, 30]), min_size=1, max_size=3),
        outcome=st.sampled_from(["answer lost", "request lost", "500 after taking"]),
        restarts=st.booleans(),
    )
    def be_out(
        self, data: st.DataObject, hours: list[int], outcome: str, *, restarts: bool
    ) -> None:
        """Leave requests in doubt for as long as the server is out; then ship."""
        process = self._one(data)
        for each in hours:
            self._ship_one(process, FATES[outcome])
            self.clock.advance(each * HOUR)
            if restarts:
                self._end(process)
                process = self._start(process.credential, "always")
                process.adopt()
        for _ in range(3):
            self._ship_one(process, take_all)

    @precondition(lambda self: self.processes)
    @rule(data=st.data(), arrives=st.booleans())
    def crash_in_a_request(self, data: st.DataObject, *, arrives: bool) -> None:
        """Die between the stamp and the record, before or after the server took it."""
        process = self._one(data)
        job = process.plan()
        if not isinstance(job, float) and arrives:
            body = b'{"events":[%b]}' % b",".join(e.payload for e in job.events)
            take_all(self.services[process.credential], BATCH_PATH, body)
        self._end(process)

    @precondition(lambda self: self.processes)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """Die, with whatever is in memory."""
        self._end(self._one(data))

    @precondition(lambda self: self.processes)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        """End in order; what is pending stays."""
        self.close_in_order(self._one(data))

    @precondition(lambda self: self.processes)
    @rule(data=st.data())
    def adopt(self, data: st.DataObject) -> None:
        """Look for what dead processes left."""
        self._one(data).adopt()

    @precondition(lambda self: len(self.corrupted) < 3)
    @rule(
        data=st.data(), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7)
    )
    def corrupt(self, data: st.DataObject, place: float, bit: int) -> None:
        """Flip a bit of an event that has not met its outcome, header or payload."""
        waiting = list(self._frames_on_disk())
        if not waiting:
            return
        path, frame = waiting[data.draw(st.integers(0, len(waiting) - 1))]
        size = FRAME_HEADER_BYTES + len(frame.payload)
        _flip(path, frame.offset + int(place * size), bit)
        key = _key_of(frame.payload)
        self.corrupted[key] = self.corrupted.get(key, 0) + 1

    @rule(seconds=st.sampled_from([60.0, HOUR, 7 * HOUR, 22 * HOUR]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([-HOUR, -1800.0, -60.0, 60.0, HOUR, 48 * HOUR]))
    def synchronise(self, seconds: float) -> None:
        """Set the wall clock, back by an hour in all: the margin of the window."""
        if seconds < 0 and self.set_back - seconds > HOUR:
            return
        self.set_back -= min(seconds, 0.0)
        self.clock.step(seconds)

    @precondition(lambda self: not self.clock_is_sound)
    @rule()
    def set_back_two_days(self) -> None:
        """Set the wall clock back by more than anybody can make up for.

        What was attempted before is quarantined while its attempt lies in the future.
        Later its age looks small. No client can tell, so these events are excused
        from being counted once; never from being kept.
        """
        self.clock.step(-48 * HOUR)
        self.excused |= self.told.keys()

    # What must hold.

    @invariant()
    def books_balance(self) -> None:
        """Every event is in one place; none is missing, and none is in two."""
        settled = self.ended.copy()
        for process in self.processes:
            assert_conserved(process.client.stats())
            settled += _settled(process)
        waiting = len(list(self._frames_on_disk())) + sum(
            len(list(process.in_memory())) for process in self.processes
        )
        missing = self.kept - settled.total() - waiting - self.forgone
        assert abs(missing) <= sum(self.corrupted.values()), f"{missing} are missing"
        for name in _DESTINATIONS:
            lost = self._expected(name) - self._places(name)
            assert lost <= self.corrupted.keys(), f"{lost} are lost"

    @invariant()
    def nothing_is_counted_twice(self) -> None:
        """The total of each service is the sum of what was told, each counted once."""
        for name, service in self.services.items():
            for key, times in service.counted.items():
                assert self.told[key].credential == name, f"{key} went elsewhere"
                assert times == 1 or self._is_excused(key), f"{key}: {times} times"
            assert service.total == sum(
                times * self.told[key].amount for key, times in service.counted.items()
            )

    def _is_excused(self, key: str) -> bool:
        # What an operation that is run again tracks is another event. The service
        # knows the key for a day, and does not promise more.
        passed = self.clock.monotonic() - self._started_at
        return key in self.excused or (key in self.rerun and passed > WINDOW - HOUR)

    def _expected(self, credential: str) -> set[str]:
        """Return the keys of all events that must be somewhere."""
        keys = {*self.durable, *(key for key, at in self.fragile.items() if at)}
        return {key for key in keys if self.told[key].credential == credential}

    def _places(self, credential: str) -> set[str]:
        """Return the keys of all events that are anywhere."""
        folder = self.folder / destination_name(DEFAULT_BASE_URL, None, credential)
        found = {frame.payload for _, frame in _frames_in(folder)}
        found.update(_buried_in(folder))
        for process in self.processes:
            found.update(process.in_memory())
        return {*self.services[credential].counted, *map(_key_of, found)}

    def _frames_on_disk(self) -> Iterator[tuple[Path, Frame]]:
        for folder in sorted(self.folder.glob("*")):
            yield from _frames_in(folder)

    # Helpers.

    def _start(self, credential: str, batching: Batching) -> Process:
        client = Client(
            api_key=credential,
            journal_dir=self.folder,
            shipping="none",
            batching=batching,
            segment_bytes=64 * KIB,
            max_journal_bytes=256 * KIB,
            max_batch_events=4,
            clock=self.clock,
        )
        process = Process(client, self.clock)
        self.processes.append(process)
        return process

    def _one(self, data: st.DataObject) -> Process:
        return self.processes[data.draw(st.integers(0, len(self.processes) - 1))]

    def close_in_order(self, process: Process) -> None:
        """End ``process`` by closing its client, which saves what it can."""
        self.ended += _settled(process)
        in_memory = {_key_of(payload) for payload in process.in_memory()}
        dropped = process.client.stats().dropped.get("memory_only", 0)
        stats = process.client.close(0).stats
        lost = stats.dropped.get("memory_only", 0) - dropped
        self.forgone += lost
        if not lost:
            self.durable |= in_memory
        self._forget(process)

    def _end(self, process: Process) -> None:
        self.ended += _settled(process)
        self.forgone += len(list(process.in_memory()))
        self._forget(process)
        process.crash()

    def _forget(self, process: Process) -> None:
        for processes in self.fragile.values():
            processes.discard(process)
        self.processes.remove(process)

    def _wire(
        self, process: Process, outcome: Fate
    ) -> Callable[[str, bytes], TransportResponse]:
        service = self.services[process.credential]
        return lambda path, body: outcome(service, path, body)

    def _ship_one(self, process: Process, outcome: Fate) -> None:
        job = process.plan()
        if not isinstance(job, float):
            process.perform(job, self._wire(process, outcome))

    def _track(self, process: Process, operation: Operation, *, large: bool) -> None:
        self.clock.advance(_TICK)
        dropped = sum(process.client.stats().dropped.values())
        receipt = _track(process, operation, large=large)
        if sum(process.client.stats().dropped.values()) > dropped:
            assert not receipt.durable
            return
        self._told_of(receipt.idempotency_key, operation)
        if receipt.durable:
            self.durable.add(receipt.idempotency_key)
        else:
            self.fragile[receipt.idempotency_key].add(process)

    def _told_of(self, key: str, operation: Operation) -> None:
        self.kept += 1
        self.told.setdefault(key, operation)


def _settled(process: Process) -> Counter[str]:
    """Return how many events have met their outcome in ``process``."""
    stats = process.client.stats()
    return Counter(
        delivered=stats.delivered, dead=stats.dead, quarantined=stats.quarantined
    )


def _track(process: Process, operation: Operation, *, large: bool) -> Receipt:
    return process.client.track_cost(
        operation.event_type,
        operation.amount,
        customer_id="cus_1",
        operation_id=operation.number,
        data={"padding": "x" * _PADDING} if large else None,
    )


def _track_in_child(
    process: Process, operations: list[Operation]
) -> Iterator[tuple[str, Operation]]:
    """Track in a forked child that ends without a word; yield what it was told."""
    hearing, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            for operation in operations:
                receipt = _track(process, operation, large=False)
                if receipt.durable:  # else the folder is full
                    line = f"{operation.number} {receipt.idempotency_key}\n"
                    os.write(telling, line.encode())
        finally:
            os._exit(0)
    os.close(telling)
    with os.fdopen(hearing) as told:
        keys = dict(line.split() for line in told)
    os.waitpid(pid, 0)
    for operation in operations:
        if key := keys.get(str(operation.number)):
            yield key, operation


@contextlib.contextmanager
def _full_disk() -> Iterator[None]:
    """Let no file grow, as on a disk without room. What is mapped is not touched."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def _flip(path: Path, offset: int, bit: int) -> None:
    # In place: a process may have the file mapped.
    with path.open("r+b", buffering=0) as file:
        file.seek(offset)
        [byte] = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))


def _frames_in(folder: Path) -> Iterator[tuple[Path, Frame]]:
    """Yield the events in a destination's segments that have not met their outcome."""
    for path in sorted(folder.glob("*/*.seg")):
        for frame in iter_unsettled(bytearray(path.read_bytes())):
            yield path, frame


def _buried_in(folder: Path) -> Iterator[bytes]:
    """Yield the payloads of the dead letters."""
    for path in folder.glob("dead/*.jsonl"):
        for line in path.read_bytes().splitlines():
            yield json.dumps(json.loads(line)["event"]).encode()


def _key_of(payload: bytes) -> str:
    return decode_event(payload).idempotency_key


TestBooks = pytest.mark.timeout(600)(Books.TestCase)  # a failure is made small first
TestBooks.settings = FULL if os.environ.get("OUTLAY_HYPOTHESIS") == "full" else _BOUNDED
