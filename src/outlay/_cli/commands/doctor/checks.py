"""What ``outlay doctor`` checks: each part yields findings, and none stops the rest."""

from __future__ import annotations

import email.utils
import enum
import os
import shutil
import stat
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay._cli.commands.journal.replay import Backlog
from outlay._cli.journal_totals import Tallies, pluralize, total_events
from outlay._cli.server_api import ServerApi
from outlay._journal import segments
from outlay._journal.admin.commit import read_unpriced
from outlay._journal.admin.inspect import (
    DestinationView,
    destinations,
    find_journal_dir,
)
from outlay._journal.folders import Lock, default_journal_dir, destination_name
from outlay._model.clock import SystemClock, to_ms
from outlay._model.settings import Settings
from outlay._shipping.batching import batch_offer
from outlay._shipping.transport import EVENTS_PATH
from outlay._shipping.wire import read_event_response
from outlay.errors import (
    ConfigError,
    JournalError,
    OutlayError,
    RejectedError,
    UnavailableError,
)
from outlay.transport import HttpTransport

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from outlay.transport import TransportResponse

_PROBE_BYTES: Final = 64 * 1024  # the smallest segment that a setting allows
_NEARLY_FULL: Final = 0.8  # of max_journal_bytes: time to act while nothing is dropped

SKEW_WARN: Final = 60.0
"""Seconds. Events are dated by this machine, so skew moves costs from one day or month
into the next. A Date header has whole seconds (RFC 9110, section 5.6.7)."""


class Level(enum.Enum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """One line: how bad, about what, and what to do."""

    level: Level
    check: str
    text: str


def check_all(
    given: Mapping[str, Any], *, variables: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield what all checks find.

    Args:
        given: settings by argument; None: not given.
        variables: of the environment, to find misspelt ones among them.
    """
    yield from _unknown_variables(variables)
    try:
        settings = Settings.resolve(given)
    except ConfigError as error:
        yield Finding(Level.FAIL, "settings", str(error))
        return
    yield from _settings(settings, given)
    for check, part in _CHECKS.items():
        try:
            yield from part(settings)
        except OSError as error:
            yield Finding(Level.FAIL, check, f"cannot be looked at: {error}")


# Settings.

_PREFIX: Final = "OUTLAY_"
_SERVER_PREFIX: Final = "OUTLAY_SERVER_"


def _unknown_variables(variables: Mapping[str, str]) -> Iterator[Finding]:
    known = {_PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(variables):
        ours = name.startswith(_PREFIX) and not name.startswith(_SERVER_PREFIX)
        if ours and name not in known:
            text = f"{name} is no setting, and has no effect; see docs/settings.md"
            yield Finding(Level.WARN, "settings", text)


def _settings(settings: Settings, given: Mapping[str, Any]) -> Iterator[Finding]:
    for name in Settings.model_fields:
        if given.get(name) is not None:
            origin = "argument"
        elif name in settings.model_fields_set:
            origin = _PREFIX + name.upper()
        elif name in _ALWAYS_SHOWN:
            origin = "default"
        else:
            continue
        # A SecretStr shows itself as asterisks.
        text = f"{name} = {getattr(settings, name)} ({origin})"
        yield Finding(Level.OK, "settings", text)
    if settings.api_key is None:
        text = "no api_key: requests carry no credential; set OUTLAY_API_KEY"
        yield Finding(Level.WARN, "settings", text)
    if settings.durability == "memory":
        text = "durability = memory: what is pending dies with the process"
        yield Finding(Level.WARN, "settings", text)


_ALWAYS_SHOWN: Final = frozenset({"base_url", "source"})


# The folder.


def _folder(settings: Settings) -> Iterator[Finding]:
    folder = find_journal_dir(settings.journal_dir)
    if settings.journal_dir is None and folder != default_journal_dir():
        text = f"{folder} may not survive a reboot; set OUTLAY_JOURNAL_DIR"
        yield Finding(Level.WARN, "folder", text)
    if not folder.exists():
        yield _missing(folder)
        return
    if not folder.is_dir():
        text = f"{folder} is no folder; set OUTLAY_JOURNAL_DIR to one"
        yield Finding(Level.FAIL, "folder", text)
        return
    try:
        yield _permissions(folder)
        yield _space(folder, settings)
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder) as probe:
            yield _locks(Path(probe))
            yield _mapping(Path(probe))
    except OSError as error:
        text = (
            f"{folder} cannot be used ({error.strerror or error}); events would be "
            "kept in memory only: set OUTLAY_JOURNAL_DIR to a folder of this user"
        )
        yield Finding(Level.FAIL, "folder", text)


def _missing(folder: Path) -> Finding:
    parent = next(each for each in folder.parents if each.exists())
    if os.access(parent, os.W_OK | os.X_OK):
        text = f"{folder} is not there yet; the first event makes it"
        return Finding(Level.OK, "folder", text)
    text = (
        f"{folder} is not there, and {parent} is not writable for this user; set "
        "OUTLAY_JOURNAL_DIR to a folder that is"
    )
    return Finding(Level.FAIL, "folder", text)


def _permissions(folder: Path) -> Finding:
    found = folder.stat()
    # What is in it has permissions of its own; but names and sizes are seen.
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o022:
        text = f"{folder} can be changed by others (mode {mode:o}): chmod 700"
        return Finding(Level.WARN, "folder", text)
    if found.st_uid != os.getuid():
        text = f"{folder} belongs to user {found.st_uid}, and this is {os.getuid()}"
        return Finding(Level.WARN, "folder", text)
    return Finding(Level.OK, "folder", f"{folder} (mode {mode:o})")


def _space(folder: Path, settings: Settings) -> Finding:
    free = shutil.disk_usage(folder).free
    text = f"{free:,} bytes are free on the disk"
    if free < settings.segment_bytes:
        text += ", not enough for one segment; events would be kept in memory only"
        return Finding(Level.FAIL, "space", text)
    if free < settings.max_journal_bytes:
        text += (
            f", less than max_journal_bytes={settings.max_journal_bytes:,}: in an outage "
            "the disk would be full first. Make room, or lower OUTLAY_MAX_JOURNAL_BYTES"
        )
        return Finding(Level.WARN, "space", text)
    return Finding(Level.OK, "space", text)


def _locks(probe: Path) -> Finding:
    one, other = Lock(probe / "lock"), Lock(probe / "lock")
    try:
        if one.acquire() and not other.acquire():
            return Finding(Level.OK, "locks", "the file system locks files")
        text = "the file system pretends to lock files; set OUTLAY_JOURNAL_DIR to a"
        return Finding(Level.FAIL, "locks", f"{text} folder on a local disk")
    except JournalError as error:
        return Finding(Level.FAIL, "locks", str(error))
    finally:
        one.close()
        other.close()


def _mapping(probe: Path) -> Finding:
    """Do to a file what is done to a segment, and read it the other way."""
    path, mark = probe / "segment", b"outlay"
    with closing(segments.create_file(path, _PROBE_BYTES, 0)) as memory:
        memory[-len(mark) :] = mark
        if path.read_bytes().endswith(mark):
            return Finding(Level.OK, "mapping", "the file system maps files")
    text = "what is stored in a mapped file is not read back; set OUTLAY_JOURNAL_DIR to"
    return Finding(Level.FAIL, "mapping", f"{text} a folder on a local disk")


# The journal.


def _journal(settings: Settings) -> Iterator[Finding]:
    journal_dir = find_journal_dir(settings.journal_dir)
    key = settings.api_key
    current = destination_name(
        settings.base_url, settings.namespace, key.get_secret_value() if key else ""
    )
    views = {view.digest: view for view in destinations(journal_dir)}
    if current in views:
        yield from _journal_backlog(views.pop(current), settings)
    else:
        yield Finding(Level.OK, "journal", "nothing was ever kept")
    for view in views.values():
        if waiting := Backlog.of(view).of_dead_writers:
            text = (
                f"{pluralize(waiting, 'event')} of dead writers in {view.digest}, for "
                "another server, namespace or credential; see 'outlay journal status'"
            )
            yield Finding(Level.WARN, "journal", text)


def _journal_backlog(view: DestinationView, settings: Settings) -> Iterator[Finding]:
    problems: list[str] = []
    events = total_events(
        view.events(lambda found: problems.append(f"{found.location}: {found.text}"))
    )
    yield _pending(events)
    for state, remedy in _REMEDIES.items():
        if count := _count(events, state):
            text = f"{pluralize(count, 'event')} {state}: {remedy}"
            yield Finding(Level.WARN, "journal", text)
    yield _journal_usage(view, settings)
    yield from _writers(view)
    yield from _unpriced(view)
    for text in problems:
        yield Finding(Level.WARN, "journal", f"left as it is: {text}")


def _writers(view: DestinationView) -> Iterator[Finding]:
    """Say for which writers nobody ships."""
    left = Backlog.of(view)
    if left.of_dead_writers:
        text = (
            f"{pluralize(left.of_dead_writers, 'event')} of dead writers; the next process ships "
            "them, or: outlay journal replay"
        )
        yield Finding(Level.WARN, "writers", text)
    unattended = sum(writer.is_unattended for writer in view.writers())
    if unattended:
        text = (
            f"no agent ships for {pluralize(unattended, 'living writer')} with "
            f"shipping=agent, and {pluralize(left.without_agent, 'event')} wait: start "
            "'outlay agent' with the settings of the applications"
        )
        yield Finding(Level.FAIL, "writers", text)


def _unpriced(view: DestinationView) -> Iterator[Finding]:
    unreadable: list[object] = []
    count = sum(1 for _ in read_unpriced(view.folder, unreadable.append))
    if count:
        text = (
            f"{pluralize(count, 'captured cost')} without a price, in no total yet: see "
            "'outlay unpriced list', then 'outlay reprice'"
        )
        yield Finding(Level.WARN, "capture", text)


def _count(events: Tallies, state: str) -> int:
    return sum(each.events for key, each in events.items() if key[0] == state)


def _pending(events: Tallies) -> Finding:
    oldest = [each.oldest for key, each in events.items() if key[0] == "pending"]
    if not oldest:
        return Finding(Level.OK, "journal", "no event is pending")
    count = pluralize(_count(events, "pending"), "event")
    return Finding(Level.OK, "journal", f"{count} pending, since {min(oldest)}")


_REMEDIES: Final = {
    "parked": "mostly no cost metric has their type; see 'outlay journal list', then "
    "'outlay metrics create'",
    "quarantined": "they may have been counted; see 'outlay journal resend --help'",
    "dead": "the server refused them; see 'outlay journal list --state dead'",
}


def _journal_usage(view: DestinationView, settings: Settings) -> Finding:
    used, most = view.folder.used_bytes(), settings.max_journal_bytes
    text = f"{used:,} of max_journal_bytes={most:,} are used"
    if used + settings.segment_bytes > most:
        text += ": new events are dropped once the open segments are full. Bring the "
        text += "server back, or raise OUTLAY_MAX_JOURNAL_BYTES"
        return Finding(Level.FAIL, "journal", text)
    level = Level.WARN if used > _NEARLY_FULL * most else Level.OK
    return Finding(level, "journal", text)


# The server.


def _server(settings: Settings) -> Iterator[Finding]:
    transport = HttpTransport.from_settings(settings)
    clock = SystemClock()
    try:
        with closing(transport):
            # An event without anything that an event needs: it is refused, but by whom
            # and why tells all. Whoever may not create events learns that instead.
            answer = transport.post(EVENTS_PATH, b"{}")
    except UnavailableError as error:
        text = f"no answer from {settings.base_url} ({error}); start the server, or "
        yield Finding(Level.FAIL, "server", text + "set OUTLAY_BASE_URL")
        return
    yield Finding(Level.OK, "server", f"{settings.base_url} answers")
    yield from _clock(answer, clock.now_ms(), settings)
    yield _credential(answer)
    offer = batch_offer(answer.headers)
    text = f"up to {offer.max_events} events a request" if offer else "not offered"
    yield Finding(Level.OK, "batches", text)
    if answer.status in _AUTHORISED:
        yield _metrics(settings)


_AUTHORISED: Final = frozenset({400, 422})


def _clock(
    answer: TransportResponse, now_ms: int, settings: Settings
) -> Iterator[Finding]:
    text = answer.headers.get("date", "")
    try:
        theirs = to_ms(email.utils.parsedate_to_datetime(text))
    except (TypeError, ValueError):  # none, or in no known form
        yield Finding(Level.WARN, "clock", "the server does not say what time it has")
        return
    skew = (now_ms - theirs) / 1000
    if abs(skew) < SKEW_WARN:
        text = "agrees with the server's, to a minute"
        yield Finding(Level.OK, "clock", text)
        return
    text = f"is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the server's"
    text += "; events are dated by it, so set it right (NTP)"
    level = Level.FAIL if abs(skew) > settings.dedupe_margin else Level.WARN
    yield Finding(level, "clock", text)


def _credential(answer: TransportResponse) -> Finding:
    """Say what the answer to an event that is none tells about real ones."""
    message = read_event_response(answer).results[0].message
    if answer.status in _AUTHORISED:
        return Finding(Level.OK, "credential", "may create events")
    for statuses, level, remedy in _ANSWERS:
        if answer.status in statuses:
            return Finding(level, "credential", f"{remedy} ({message})")
    text = f"the server cannot tell now; try again later ({message})"
    return Finding(Level.WARN, "credential", text)


_ANSWERS: Final = (
    ({401}, Level.FAIL, "is not accepted: set OUTLAY_API_KEY to a valid one"),
    ({403}, Level.FAIL, "may not create events: give the key that permission"),
    (
        range(200, 300),
        Level.FAIL,
        "anything is accepted here, so this is no cost service: check OUTLAY_BASE_URL",
    ),
    (
        {*range(300, 400), 404, 405},
        Level.FAIL,
        "no events are taken here: check OUTLAY_BASE_URL",
    ),
)


def _metrics(settings: Settings) -> Finding:
    try:
        with ServerApi(settings) as api:
            count = len(api.metrics())
    except RejectedError as error:
        text = f"cannot be listed, which tracking does not need ({error})"
        return Finding(Level.OK, "metrics", text)
    except OutlayError as error:
        return Finding(Level.WARN, "metrics", f"cannot be listed ({error})")
    if not count:
        text = "there is none, so every event will be parked: outlay metrics create"
        return Finding(Level.WARN, "metrics", text)
    return Finding(Level.OK, "metrics", pluralize(count, "cost metric"))


_CHECKS: Final = {"folder": _folder, "journal": _journal, "server": _server}
