"""``outlay adjust``: add an amount to what events count."""

from __future__ import annotations

import argparse
from decimal import Decimal, InvalidOperation
from typing import Final

from outlay._cli.connection import open_api
from outlay._cli.correcting import add_correction_options, run_correction
from outlay._cli.exit_codes import ExitCode, UsageError
from outlay._cli.options import connection_settings
from outlay._cli.output import plain

_DESCRIPTION: Final = """\
Add a signed amount to what events count in one cost metric, whose aggregation is SUM.
The events stay as they are. The server keeps the reason, the time and the key. An
adjustment can be reverted.
"""

_EPILOG: Final = """\
examples:
  outlay adjust evt_0192a3b4c5d6 --cost inference --delta=-0.25 --reason rebate
  outlay adjust --cost inference --delta=-0.001 --from 2026-10-01 --to 2026-11-01 \\
      --reason rebate --dry-run
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description, the arguments and examples."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument(
        "--cost", required=True, metavar="NAME|ID", help="the cost metric"
    )
    parser.add_argument(
        "--delta",
        required=True,
        type=_amount,
        metavar="AMOUNT",
        help="the amount for each event, in the unit of the metric's value; write a "
        "negative one as --delta=-1",
    )
    add_correction_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Adjust the events."""
    with open_api(connection_settings(arguments)) as api:
        metrics = api.metrics()
    wanted = arguments.cost
    found = [one for one in metrics if wanted in {one.id, one.name}]
    if len(found) != 1:
        there = ", ".join(one.name for one in metrics) or "none"
        raise UsageError(
            f"{len(found)} cost metrics {wanted!r}; pass the id of one; there are: "
            f"{there}"
        )
    amount = {"costId": found[0].id, "delta": plain(arguments.delta)}
    run_correction("adjust", arguments, amount)
    return ExitCode.DONE


def _amount(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount such as -0.25")
    return number
