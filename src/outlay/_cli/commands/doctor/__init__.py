"""``outlay doctor``: what is wrong, and what to do about it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final

from outlay._cli.commands.doctor.checks import Level, check_all
from outlay._cli.exit_codes import ExitCode
from outlay._cli.options import add_connection

if TYPE_CHECKING:
    import argparse

_DESCRIPTION: Final = """\
Check the settings, the journal's folder, what waits in it, the clock and the server.
No event is created. Nothing is written but a probe in the folder, which is removed.
"""

_EPILOG: Final = """\
example:
  outlay doctor --json

exit codes:
  0  nothing fails; there may be warnings
  1  something fails
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, arguments and an example."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument(
        "--journal-dir",
        metavar="DIR",
        help="folder of the journal (default: OUTLAY_JOURNAL_DIR, or the platform's "
        "state folder)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the findings as JSON"
    )
    add_connection(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check everything, and say what was found."""
    given = {
        "base_url": arguments.base_url,
        "api_key": arguments.api_key,
        "journal_dir": arguments.journal_dir,
    }
    findings = []
    # One by one: whoever waits for a server that does not answer sees the rest already.
    for finding in check_all(given, variables=os.environ):
        findings.append(finding)
        if not arguments.json:
            print(f"{finding.level.value:<5} {finding.check:<11} {finding.text}")
    failed = any(finding.level is Level.FAIL for finding in findings)
    if arguments.json:
        found = [
            {"level": level.value, "check": check, "text": text}
            for level, check, text in findings
        ]
        print(json.dumps({"healthy": not failed, "findings": found}))
    return ExitCode.REFUSED if failed else ExitCode.DONE
