"""Every command of the command line, and data for each to work on."""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay import Client
from outlay._cli.exit_codes import ExitCode
from outlay._cli.main import all_parsers
from outlay._journal.journal import Destination
from outlay.server import BackgroundServer, ServerSettings
from tests.support import command_line
from tests.support.bills import OPENAI_CSV
from tests.support.command_line import KEY, Ran
from tests.support.events import payload, track
from tests.support.journals import close_journals, make_journal, take_all
from tests.support.unpriced import BOOK, record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

CUSTOMER: Final = "Größe"
"""A customer whose name needs more than ASCII."""

COMMANDS: Final = {
    "init": "--output {new}.env",
    "agent": "--once --timeout 1",
    "track": "cost.ocr 0.0042 --customer {customer} --operation-id job-{number}",
    "costs": "--by customer,model --window day --month 2026-10 --top 10 --compare",
    "margins": "--month 2026-10",
    "budgets list": "",
    "budgets set": "acme-{number} 500 --customer {customer} --name 'Acme, each month'",
    "budgets delete": "{made}",
    "budgets webhook": "https://hooks.example.com/outlay",
    "budgets test": "",
    "revenue import": "{revenue} --month 2026-10 --currency USD",
    "revenue list": "--month 2026-10",
    "rates set": "EUR USD 1.0832 --from 2026-10 --source ECB",
    "rates list": "",
    "customers name": "{customer} 'Größe, Inc.'",
    "customers list": "",
    "export": "events --month 2026-10",
    "reconcile": "{bill} --month 2026-10",
    "reconciliations list": "",
    "reconciliations show": "{saved}",
    "reconciliations withdraw": "{saved} --reason 'the wrong month'",
    "void": "--type cost.ai.inference --from 2026-10 --reason sandbox --dry-run",
    "adjust": "{event} --cost inference --delta=-0.001 --reason rebate",
    "corrections list": "",
    "corrections revert": "{made} --reason mistake",
    "close": "",
    "metrics create": "pages-{number} --event-type cost.pages.n{number} --by provider",
    "metrics list": "",
    "metrics update": "voice --unit second",
    "metrics delete": "{made}",
    "keys create": "worker-{number} --permission events:create",
    "keys list": "",
    "keys rotate": "{made}",
    "keys revoke": "{made}",
    "events list": "--from 2026-10 --to 2026-11",
    "events show": "{event}",
    "erase": "--customer cus_gone --yes",
    "retention": "",
    "backup": "--db {database} --output {new}.db",
    "store copy": "{backup} {new}.db",
    "restore": "{backup} --db {new}.db",
    "journal status": "",
    "journal list": "",
    "journal show": "key-7",
    "journal replay": "",
    "journal resend": "--state dead",
    "journal export": "",
    "journal purge": "--state dead --yes",
    "journal move": "{other} --i-know-these-belong-to-this-account",
    "unpriced list": "",
    "unpriced drop": "--provider nobody --yes",
    "reprice": "--price-book {book} --provider acme --as-provider openai --dry-run",
    "prices check": "{book}",
    "prices show": "gpt-4o",
    "prices quote": "--provider openai --model gpt-4o --usage input_tokens=1000",
    "doctor": "",
    "completion": "bash",
}
"""The arguments of each command. `Walk.words` fills in the names."""

_BEFORE: Final = {
    "budgets delete": "budgets set gone-{number} 500",
    "corrections revert": "adjust {event} --cost inference --delta=-1 --reason rebate",
    "keys revoke": "keys create worker --permission events:create",
    "keys rotate": "keys create worker --permission events:create",
    "metrics delete": "metrics create gone-{number} --event-type cost.gone.n{number}",
}
"""Commands whose object another one makes first. Its id is ``{made}``."""

UNWALKED: Final = {
    "demo": "runs for a minute; test_cli_demo.py",
    "serve": "runs until it is stopped; test_cli_serve.py",
}
"""Commands that are not run, and the reason."""

_NOWHERE: Final = "http://127.0.0.1:9"  # the discard port, on which nothing listens
_DIGITS: Final = "1234567890.123456789012345678"


def leaf_parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command and subcommand, by what a user types."""
    found: dict[str, argparse.ArgumentParser] = {}
    remaining = dict(all_parsers())
    while remaining:
        name, parser = remaining.popitem()
        actions = [
            action
            for action in parser._actions
            if isinstance(action, argparse._SubParsersAction)
        ]
        for action in actions:
            remaining.update(
                (f"{name} {word}", p) for word, p in action.choices.items()
            )
        if not actions:
            found[name] = parser
    return dict(sorted(found.items()))


class Walk(NamedTuple):
    """A server and files on which all commands can run.

    Attributes:
        url: The address of the server.
        folder: The folder of the files.
        names: The names that stand in `COMMANDS`.
        numbers: Numbers that no command has used.
    """

    url: str
    folder: Path
    names: dict[str, str]
    numbers: Iterator[int]

    def words(self, command: str, *more: str) -> list[str]:
        """Return what a user types after ``outlay``. The journal is as at first."""
        journal = self.folder / "journal"
        shutil.rmtree(journal, ignore_errors=True)
        shutil.copytree(self.folder / "journal-template", journal)
        number = next(self.numbers)
        names = {
            **self.names,
            "number": str(number),
            "new": str(self.folder / f"new-{number}"),
        }
        if command in _BEFORE:
            words = shlex.split(_BEFORE[command].format(**names))
            made = read_json(*words)
            names["made"] = (made[0] if isinstance(made, list) else made)["id"]
        return [
            *command.split(),
            *shlex.split(COMMANDS[command].format(**names)),
            *more,
        ]

    def variables(self) -> dict[str, str]:
        """Return the environment that leads commands to the server and the files."""
        return {
            "OUTLAY_BASE_URL": self.url,
            "OUTLAY_API_KEY": KEY,
            "OUTLAY_JOURNAL_DIR": str(self.folder / "journal"),
            "OUTLAY_SEGMENT_BYTES": str(64 * 1024),
            "OUTLAY_TIMEOUT": "50",  # seconds, for a busy machine
        }


@contextmanager
def walking(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Walk]:
    """Start a server with data, write the files, and set the environment."""
    database = folder / "costs.db"
    settings = ServerSettings(port=0, database=database, api_key=KEY)
    with BackgroundServer(settings) as server:
        walk = Walk(server.url, folder, {"customer": CUSTOMER}, itertools.count())
        for name, value in walk.variables().items():
            patch.setenv(name, value)
        _fill_server()
        walk.names.update(_written_files(folder))
        walk.names["database"] = str(database)
        walk.names["saved"] = _saved_reconciliation(walk.names["bill"])
        walk.names["event"] = read_json("events", "list", *_OCTOBER)["events"][0]["id"]
        walk.names["other"] = _fill_journal(folder / "journal-template", server.url)
        call("backup", "--db", str(database), "--output", walk.names["backup"])
        yield walk
        close_journals()


_OCTOBER: Final = ("--from", "2026-10", "--to", "2026-11")


def _fill_server() -> None:
    call("metrics", "create", "--defaults")
    for number, customer in enumerate((CUSTOMER, "cus_2", "cus_with_a_long_name" * 3)):
        call(
            *("track", "cost.ai.inference", f"{number + 1}{_DIGITS}"),
            *("--customer", customer, "--operation-id", f"walk-{number}"),
            *("--timestamp", f"2026-10-1{number}", "--provider", "openai"),
            *("--data", '{"model": "gpt-4o-2024-08-06"}'),
        )
    call(
        "budgets", "set", "acme", "500.25", "--customer", CUSTOMER, "--period", "month"
    )
    call("close", "2020-01")


def _saved_reconciliation(bill: str) -> str:
    command_line.call("reconcile", bill, "--invoice", "INV-1")  # the sides differ
    [saved] = read_json("reconciliations", "list")
    return str(saved["id"])


def _written_files(folder: Path) -> dict[str, str]:
    texts = {
        "bill": OPENAI_CSV,
        "book": BOOK,
        "revenue": f"customer,amount\n{CUSTOMER},99.95\ncus_2,12\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    return {name: str(folder / name) for name in (*texts, "backup")}


def _fill_journal(folder: Path, url: str) -> str:
    """Leave events in each state. Return the name of another destination."""
    with _client(folder, url, KEY) as client:
        track(client, 1)
        record(client, 1)
        record(client, 2, is_complete=False)
    with _client(folder, url, "sk_test_earlier") as client:
        track(client, 2)
    writer = make_journal(folder, destination=Destination(url, None, KEY))
    writer.append(payload(7))
    for event in take_all(writer):
        writer.move_to_dead_letters(event, "dead", "rejected", "HTTP 400: no such type")
    writer.close()
    close_journals()
    status = read_json("journal", "status", "--journal-dir", str(folder))
    return str(status["destinations"][-1]["destination"])


def _client(folder: Path, url: str, key: str) -> Client:
    return Client(base_url=url, api_key=key, shipping="none", journal_dir=folder)


def call(*words: str) -> Ran:
    """Run a command that must succeed."""
    ran = command_line.call(*words)
    assert ran.code == ExitCode.DONE, ran.err
    return ran


def read_json(*words: str) -> Any:  # noqa: ANN401 - JSON
    """Run a command that must succeed, and return the JSON that it prints."""
    return json.loads(call(*words, "--json").out)
