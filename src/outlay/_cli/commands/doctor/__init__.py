"""``outlay doctor``: find what is wrong, and say what to do about it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from outlay._cli.commands.doctor.checks import check_all
from outlay._cli.commands.doctor.findings import Level
from outlay._cli.exit_codes import ExitCode
from outlay._cli.journal_options import add_journal_options
from outlay._cli.options import add_format_options
from outlay._cli.output import print_data, print_labelled

if TYPE_CHECKING:
    import argparse

    from outlay._cli.commands.doctor.findings import Finding

_DESCRIPTION: Final = """\
Check the settings, the journal's folder and its events, the clock and the server. The
command creates no event. It writes one file to the folder, and deletes it.
"""

_EPILOG: Final = """\
example:
  outlay doctor --json

exit codes:
  0  nothing fails; there may be warnings
  1  something fails
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description, the arguments and an example."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add_format_options(parser)
    add_journal_options(parser)


_STYLES: Final = {
    Level.OK: "green",
    Level.WARN: "yellow",
    Level.FAIL: "bold red",
}


def run(arguments: argparse.Namespace) -> int:
    """Run all checks, and print their findings."""
    given = {
        "base_url": arguments.base_url,
        "api_key": arguments.api_key,
        "journal_dir": arguments.journal_dir,
    }
    findings = []
    # Print one by one: a server that does not respond delays only its own line.
    for finding in check_all(given, variables=os.environ):
        findings.append(finding)
        if not arguments.format:
            _print(finding)
    failed = any(finding.level is Level.FAIL for finding in findings)
    if arguments.format:
        shown = [
            {"level": level.value, "check": check, "text": text}
            for level, check, text in findings
        ]
        document = {"healthy": not failed, "findings": shown}
        print_data(arguments.format, document, shown)
    return ExitCode.REFUSED if failed else ExitCode.DONE


def _print(finding: Finding) -> None:
    level = finding.level
    text = f"{finding.check:<11} {finding.text}"
    print_labelled(f"{level.value:<5} ", _STYLES[level], text)
