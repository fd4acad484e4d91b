"""``outlay void``: let events count nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay._cli.correcting import add_correction_options, run_correction
from outlay._cli.exit_codes import ExitCode

if TYPE_CHECKING:
    import argparse

_DESCRIPTION: Final = """\
A voided event stays on the server, and counts nothing. The server keeps the reason, the
time and the key. A void can be reverted.
"""

_EPILOG: Final = """\
examples:
  outlay void evt_0192a3b4c5d6 --reason 'sandbox traffic'
  outlay void --type cost.ai.inference --customer cus_1 --from 2026-10-03 \\
      --to 2026-10-04 --reason 'sandbox traffic' --dry-run
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description, the arguments and examples."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add_correction_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Void the events."""
    run_correction("void", arguments, {})
    return ExitCode.DONE
