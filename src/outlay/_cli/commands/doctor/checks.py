"""The checks of ``outlay doctor``. Each yields findings, and none stops the others."""

from __future__ import annotations

import email.utils
import enum
import os
import resource
import shutil
import ssl
import stat
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from outlay._cli.commands.doctor.file_systems import (
    file_system_type,
    file_system_warning,
    read_mounts,
)
from outlay._cli.connection import open_api
from outlay._cli.journal_options import current_destination
from outlay._cli.journal_totals import Backlog, Totals, total_events
from outlay._cli.output import pluralize
from outlay._journal import segments
from outlay._journal.admin.inspect import (
    DestinationView,
    destinations,
    find_journal_dir,
)
from outlay._journal.folders import default_journal_dir
from outlay._journal.locks import Lock
from outlay._journal.recovery import most_folders
from outlay._model.clock import SystemClock, to_ms
from outlay._model.settings import PREFIX, SERVER_PREFIX, Settings, is_loopback
from outlay._shipping.batching import batch_offer
from outlay._shipping.transport import EVENTS_PATH
from outlay._shipping.wire import read_event_response
from outlay.api._connection import Connection
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
_FEW_DESCRIPTORS: Final = 256  # macOS starts programs with as many
_NEARLY_FULL: Final = 0.8  # of max_journal_bytes: time to act before events are dropped

SKEW_WARN: Final = 60.0
"""Seconds. The clock of this machine dates events, so skew moves costs from one day or
month into the next. A Date header has whole seconds (RFC 9110, section 5.6.7)."""


class Level(enum.Enum):
    """The severity of a finding."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """One line: the severity, the check, and what to do."""

    level: Level
    check: str
    text: str


def check_all(
    given: Mapping[str, Any], *, variables: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield the findings of all checks.

    Args:
        given: Settings that were passed as arguments. None means not given.
        variables: The environment, to find misspelled variables.
    """
    yield from _unknown_variables(variables)
    try:
        settings = Settings.resolve(given)
    except ConfigError as error:
        yield Finding(Level.FAIL, "settings", str(error))
        return
    yield from _settings(settings, given)
    for name, check in _CHECKS.items():
        try:
            yield from check(settings)
        except OSError as error:
            yield Finding(Level.FAIL, name, f"cannot be read: {error}")
        except Exception as error:  # noqa: BLE001 - a fault of one check hides no other
            text = f"cannot be checked: {type(error).__name__}: {error}"
            yield Finding(Level.FAIL, name, text)


# Settings.

_ALWAYS_SHOWN: Final = frozenset({"base_url", "source"})


def _unknown_variables(variables: Mapping[str, str]) -> Iterator[Finding]:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(variables):
        ours = name.startswith(PREFIX) and not name.startswith(SERVER_PREFIX)
        if ours and name not in known:
            text = f"{name} is no setting and has no effect; see docs/settings.md"
            yield Finding(Level.WARN, "settings", text)


def _settings(settings: Settings, given: Mapping[str, Any]) -> Iterator[Finding]:
    for name in Settings.model_fields:
        if given.get(name) is not None:
            origin = "argument"
        elif name in settings.model_fields_set:
            origin = PREFIX + name.upper()
        elif name in _ALWAYS_SHOWN:
            origin = "default"
        else:
            continue
        # A SecretStr prints asterisks.
        text = f"{name} = {getattr(settings, name)} ({origin})"
        yield Finding(Level.OK, "settings", text)
    if settings.api_key is None:
        text = "no api_key: right for --dev; else set OUTLAY_API_KEY"
        yield Finding(Level.WARN, "settings", text)
    if settings.durability == "memory":
        text = "durability = memory: pending events are lost with the process"
        yield Finding(Level.WARN, "settings", text)


# The folder.


def _folder(settings: Settings) -> Iterator[Finding]:
    folder = find_journal_dir(settings.journal_dir)
    if settings.journal_dir is None and folder != default_journal_dir():
        text = f"{folder} may not survive a reboot; set OUTLAY_JOURNAL_DIR"
        yield Finding(Level.WARN, "folder", text)
    if not folder.exists():
        yield _missing_folder(folder)
        return
    file_system = file_system_type(folder, read_mounts())
    durable = settings.durability == "disk"
    if warning := file_system_warning(file_system, durable=durable):
        text = f"{folder} ({file_system}) {warning}; set OUTLAY_JOURNAL_DIR"
        yield Finding(Level.WARN, "folder", f"{text} to a folder on a local disk")
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


def _missing_folder(folder: Path) -> Finding:
    for each in (folder, *folder.parents):
        if each.is_symlink() and not each.exists():
            text = f"{each} is a link that leads nowhere; remove or correct it"
            return Finding(Level.FAIL, "folder", text)
    parent = next(each for each in folder.parents if each.exists())
    if os.access(parent, os.W_OK | os.X_OK):
        text = f"{folder} does not exist yet; the first event creates it"
        return Finding(Level.OK, "folder", text)
    text = (
        f"{folder} does not exist, and this user cannot write to {parent}; set "
        "OUTLAY_JOURNAL_DIR to a folder of this user"
    )
    return Finding(Level.FAIL, "folder", text)


def _permissions(folder: Path) -> Finding:
    found = folder.stat()
    # The files have permissions of their own; but others see names and sizes.
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o022:
        text = f"others can change {folder} (mode {mode:o}): chmod 700"
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
            f", less than max_journal_bytes={settings.max_journal_bytes:,}: an outage "
            "would fill the disk. Free space, or lower OUTLAY_MAX_JOURNAL_BYTES"
        )
        return Finding(Level.WARN, "space", text)
    return Finding(Level.OK, "space", text)


def _locks(probe: Path) -> Finding:
    one, other = Lock(probe / "lock"), Lock(probe / "lock")
    try:
        if one.acquire() and not other.acquire():
            return Finding(Level.OK, "locks", "the file system locks files")
        text = "the file system does not really lock files; set OUTLAY_JOURNAL_DIR to"
        return Finding(Level.FAIL, "locks", f"{text} a folder on a local disk")
    except JournalError as error:
        return Finding(Level.FAIL, "locks", str(error))
    finally:
        one.close()
        other.close()


def _mapping(probe: Path) -> Finding:
    """Write a mapped file, as the journal does, and read it as a plain file."""
    path, mark = probe / "segment", b"outlay"
    with closing(segments.create_file(path, _PROBE_BYTES, 0)) as memory:
        memory[-len(mark) :] = mark
        if path.read_bytes().endswith(mark):
            return Finding(Level.OK, "mapping", "the file system maps files")
    text = "bytes of a mapped file cannot be read back; set OUTLAY_JOURNAL_DIR to"
    return Finding(Level.FAIL, "mapping", f"{text} a folder on a local disk")


# The limit of open files.


def _descriptors(settings: Settings) -> Iterator[Finding]:
    """Report how many dead writers' folders a process can hold at the same time."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        yield Finding(Level.OK, "descriptors", "open files have no limit")
        return
    adopted = most_folders(agent=False, descriptors=soft)
    text = (
        f"{soft:,} open files (ulimit -n); adopts "
        f"{pluralize(adopted, 'dead writer')} at a time"
    )
    if soft < _FEW_DESCRIPTORS:
        text += f": raise the limit to {_FEW_DESCRIPTORS} or more"
        yield Finding(Level.WARN, "descriptors", text)
    else:
        yield Finding(Level.OK, "descriptors", text)
    view = current_destination(settings)
    if not view.folder.exists:
        return
    # An agent raises its own limit as far as it may.
    most = most_folders(agent=True, descriptors=hard)
    living = sum(not writer.is_dead for writer in view.writers())
    if living > most:
        text = (
            f"an agent that may open {hard:,} files follows {most:,} of "
            f"{pluralize(living, 'living writer')} at a time: raise its hard limit"
        )
        yield Finding(Level.WARN, "descriptors", text)


# The journal.

_REMEDIES: Final = {
    "parked": "most likely no cost metric counts their type; see 'outlay journal "
    "list', then 'outlay metrics create'",
    "quarantined": "they may have been counted; see 'outlay journal resend --help'",
    "dead": "the server refused them; see 'outlay journal list --state dead'",
}


def _journal(settings: Settings) -> Iterator[Finding]:
    current = current_destination(settings)
    if current.folder.exists:
        yield from _journal_backlog(current, settings)
    else:
        yield Finding(Level.OK, "journal", "no event was ever stored")
    for view in destinations(find_journal_dir(settings.journal_dir)):
        waiting = Backlog.from_view(view).of_dead_writers
        if waiting and view.digest != current.digest:
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
        yield Finding(Level.WARN, "journal", f"not read, and left as it is: {text}")


def _writers(view: DestinationView) -> Iterator[Finding]:
    """Report writers whose events no process ships."""
    backlog = Backlog.from_view(view)
    if dead := backlog.of_dead_writers:
        count = sum(writer.is_dead for writer in view.writers())
        text = (
            f"{pluralize(dead, 'event')} of {pluralize(count, 'dead writer')}; the "
            "next process ships them, or: outlay journal replay"
        )
        yield Finding(Level.WARN, "writers", text)
    unattended = sum(writer.is_unattended for writer in view.writers())
    if unattended:
        events = pluralize(backlog.without_agent, "event")
        text = (
            f"no agent ships for {pluralize(unattended, 'living writer')} with "
            f"shipping=agent, and {events} wait: start 'outlay agent' with the "
            "settings of the applications"
        )
        yield Finding(Level.FAIL, "writers", text)


def _unpriced(view: DestinationView) -> Iterator[Finding]:
    unreadable: list[object] = []
    count = sum(1 for _ in view.unpriced(unreadable.append))
    if count:
        text = (
            f"{pluralize(count, 'captured cost')} without a price, in no total yet: "
            "see 'outlay unpriced list', then 'outlay reprice'"
        )
        yield Finding(Level.WARN, "capture", text)


def _count(events: Totals, state: str) -> int:
    return sum(each.events for key, each in events.items() if key[0] == state)


def _pending(events: Totals) -> Finding:
    oldest = [each.oldest for key, each in events.items() if key[0] == "pending"]
    if not oldest:
        return Finding(Level.OK, "journal", "no event is pending")
    count = pluralize(_count(events, "pending"), "event")
    return Finding(Level.OK, "journal", f"{count} pending, since {min(oldest)}")


def _journal_usage(view: DestinationView, settings: Settings) -> Finding:
    used, limit = view.folder.used_bytes(), settings.max_journal_bytes
    text = f"{used:,} of max_journal_bytes={limit:,} are used"
    if used + settings.segment_bytes > limit:
        text += (
            ": new events are dropped when the open segments are full. Start the "
            "server, or raise OUTLAY_MAX_JOURNAL_BYTES"
        )
        return Finding(Level.FAIL, "journal", text)
    level = Level.WARN if used > _NEARLY_FULL * limit else Level.OK
    return Finding(level, "journal", text)


# The server.

_MOST_WAITING_DAYS: Final = 2

_AUTHORISED: Final = frozenset({400, 422})

_CREDENTIAL_FINDINGS: Final = (
    ({401}, "is not accepted: set OUTLAY_API_KEY to a valid one"),
    ({403}, "may not create events: give the key that permission"),
    (
        range(200, 300),
        "every request is accepted, so this is no cost service: check OUTLAY_BASE_URL",
    ),
    (
        {*range(300, 400), 404, 405},
        "the server takes no events: check OUTLAY_BASE_URL",
    ),
)


def _server(settings: Settings) -> Iterator[Finding]:
    proxy = _proxy(settings)
    if proxy is not None:
        yield Finding(Level.OK, "proxy", f"requests go through {proxy}")
    if broken := _certificate_problem():
        yield Finding(Level.FAIL, "certificates", broken)
        return
    transport = HttpTransport.from_settings(settings)
    clock = SystemClock()
    try:
        with closing(transport):
            # The body is no event, so the server refuses it. The reason shows whether
            # the key may create events.
            response = transport.post(EVENTS_PATH, b"{}")
    except UnavailableError as error:
        text = f"no response from {settings.base_url} ({error}); start the server, or "
        text += "set OUTLAY_BASE_URL"
        if proxy is not None:
            text += f". The request went through {proxy}: check the proxy, or add the "
            text += "server to NO_PROXY"
        yield Finding(Level.FAIL, "server", text)
        return
    yield Finding(Level.OK, "server", f"{settings.base_url} responds")
    yield _clock(response, clock.now_ms(), settings)
    yield _credential(response)
    offer = batch_offer(response.headers)
    text = f"up to {offer.max_events} events a request" if offer else "not offered"
    yield Finding(Level.OK, "batches", text)
    if response.status in _AUTHORISED:
        yield _metrics(settings)
    yield from _store(settings)


def _store(settings: Settings) -> Iterator[Finding]:
    """Yield what the reference server says of its store. Other servers say nothing."""
    connection = Connection(settings, {}, attempts=1, on_warning=None)
    try:
        response = httpx.get(
            f"{settings.base_url.rstrip('/')}/readyz", **connection.options()
        )
        found = response.json()
    except (httpx.HTTPError, ValueError):
        return
    if not isinstance(found, dict):
        return
    if response.status_code == 503 and "message" in found:
        yield Finding(Level.FAIL, "store", str(found["message"]))
    elif response.status_code == 200 and "store" in found:
        waiting = pluralize(int(found.get("unfoldedRows") or 0), "row")
        text = f"{found['store']}; {waiting} to fold into totals, which are exact"
        yield Finding(Level.OK, "store", text)
    if response.status_code == 200 and isinstance(found.get("history"), dict):
        yield _history(found["history"])


def _proxy(settings: Settings) -> str | None:
    """Return the proxy of the server without its password, and its variable."""
    parts = urlsplit(settings.base_url)
    if is_loopback(settings.base_url) or proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    for name in (parts.scheme, "all"):
        if proxy := proxies.get(name):
            address = proxy.rpartition("@")[2]
            if "://" in proxy and "://" not in address:
                address = f"{proxy.partition('://')[0]}://{address}"
            return f"the proxy {address} ({name.upper()}_PROXY)"
    return None


def _certificate_problem() -> str | None:
    """Return what is wrong with the certificates that the environment names."""
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if folder and not Path(folder).is_dir():
        return f"SSL_CERT_DIR={folder} is no folder; correct or unset it"
    if not file:
        return None
    try:
        ssl.create_default_context(cafile=file)
    except FileNotFoundError:
        return f"SSL_CERT_FILE={file} does not exist; correct or unset it"
    except OSError as error:  # and an SSLError is one
        return f"SSL_CERT_FILE={file} has no usable certificate ({error}); correct it"
    return None


def _clock(response: TransportResponse, now_ms: int, settings: Settings) -> Finding:
    date = response.headers.get("date", "")
    try:
        server_ms = to_ms(email.utils.parsedate_to_datetime(date))
    except (TypeError, ValueError):  # There is no date, or it has an unknown form.
        return Finding(Level.WARN, "clock", "the server does not report its time")
    skew = (now_ms - server_ms) / 1000
    if abs(skew) < SKEW_WARN:
        return Finding(Level.OK, "clock", "agrees with the server's, to a minute")
    relation = "ahead of" if skew > 0 else "behind"
    text = (
        f"is {abs(skew):.0f} s {relation} the server's; it dates events, so set it "
        "right (NTP)"
    )
    level = Level.FAIL if abs(skew) > settings.dedupe_margin else Level.WARN
    return Finding(level, "clock", text)


def _credential(response: TransportResponse) -> Finding:
    """Report what the response to an invalid event means for real events."""
    message = read_event_response(response, b"{}").results[0].message
    if response.status in _AUTHORISED:
        return Finding(Level.OK, "credential", "may create events")
    for statuses, remedy in _CREDENTIAL_FINDINGS:
        if response.status in statuses:
            return Finding(Level.FAIL, "credential", f"{remedy} ({message})")
    text = f"the server cannot check it now; try again later ({message})"
    return Finding(Level.WARN, "credential", text)


def _history(found: Mapping[str, Any]) -> Finding:
    """Report how far a server's old days are moved to ClickHouse."""
    until = str(found.get("movedUntil") or "").partition("T")[0]
    text = f"days are in ClickHouse until {until}" if until else "no day is in it yet"
    days = int(found.get("waitingDays", 0))
    waiting = pluralize(days, "day")
    if found.get("isFailing"):
        text += f", {waiting} wait, and moving fails; see the log of the server"
    elif days > _MOST_WAITING_DAYS:
        text += f", and {waiting} wait; check that ClickHouse keeps up"
    else:
        return Finding(Level.OK, "history", text)
    return Finding(Level.WARN, "history", text)


def _metrics(settings: Settings) -> Finding:
    try:
        with open_api(settings) as api:
            count = len(api.metrics())
    except RejectedError as error:
        text = f"cannot be listed, which tracking does not need ({error})"
        return Finding(Level.OK, "metrics", text)
    except OutlayError as error:
        return Finding(Level.WARN, "metrics", f"cannot be listed ({error})")
    if not count:
        text = (
            "there is none, so every event will be parked; type: outlay metrics create "
            "--defaults"
        )
        return Finding(Level.WARN, "metrics", text)
    return Finding(Level.OK, "metrics", pluralize(count, "cost metric"))


_CHECKS: Final = {
    "folder": _folder,
    "descriptors": _descriptors,
    "journal": _journal,
    "server": _server,
}
