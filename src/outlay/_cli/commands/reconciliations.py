"""``outlay reconciliations``: list, show and withdraw saved reconciliations."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Final

from outlay._cli.exit_codes import ExitCode
from outlay._cli.options import (
    add_action_options,
    add_page_limit,
    add_subcommand,
    connection_settings,
)
from outlay._cli.output import Table, plain, print_data, print_list, print_table
from outlay._cli.periods import short_time
from outlay._cli.reconciliation_api import ReconciliationApi, totals_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from outlay._cli.reconciliation_api import SavedReconciliation

_DESCRIPTION: Final = """\
'outlay reconcile FILE --invoice ID' saves which costs match an invoice. Exports name
the invoice until its reconciliation is withdrawn, or a later one covers the same days.
"""

_EPILOG: Final = """\
examples:
  outlay reconciliations list
  outlay reconciliations show rec_5f3a9c0d2b1e
  outlay reconciliations withdraw rec_5f3a9c0d2b1e --reason 'the wrong month'
"""

_WIDTH: Final = 80  # columns of sentences


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(title="actions", required=True)
    listing = add_subcommand(
        actions, "list", _list, "list saved reconciliations, the last one first"
    )
    add_page_limit(listing, "reconciliations", 25)
    show = add_subcommand(actions, "show", _show, "show one")
    withdraw = add_subcommand(
        actions, "withdraw", _withdraw, "let one count no more; it stays on record"
    )
    withdraw.add_argument("--reason", required=True, metavar="TEXT", help="the reason")
    for one in (show, withdraw):
        one.add_argument("id", metavar="ID", help="the id of the reconciliation, rec_…")
    for one in actions.choices.values():
        one.epilog = _EPILOG
    add_action_options(actions)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    with ReconciliationApi(connection_settings(arguments)) as api:
        arguments.action(api, arguments)
    return ExitCode.DONE


def _list(api: ReconciliationApi, arguments: argparse.Namespace) -> None:
    page = api.last_saved(arguments.limit)
    print_list(
        arguments.format,
        page.data,
        _json,
        _print_saved,
        nothing="no saved reconciliations; type: outlay reconcile FILE --invoice ID",
        total=page.pagination.total,
    )


def _print_saved(found: Sequence[SavedReconciliation]) -> None:
    print_table(
        Table(
            ("saved", "who", "invoice", "provider", "days", "bill", "tracked",
             "reconciled", "", "charges", "state", "id"),
            [_cells(one) for one in found],
            hide=("who", "charges", "tracked", "bill"),
        )
    )  # fmt: skip


def _cells(one: SavedReconciliation) -> tuple[Any, ...]:
    totals = one.totals
    return (
        _saved(one),
        one.saved_by,
        one.invoice_id,
        one.provider,
        f"{one.first} to {one.last}",
        totals and totals.bill,
        totals and totals.tracked,
        totals and totals.reconciled,
        one.currency,
        _charges(one),
        _state(one),
        one.id,
    )


def _saved(one: SavedReconciliation) -> str:
    return "" if one.saved_at is None else short_time(one.saved_at)


def _charges(one: SavedReconciliation) -> str:
    if one.totals is None or one.totals.charges is None:
        return ""
    return f"{one.totals.reconciled_charges} of {one.totals.charges}"


def _state(one: SavedReconciliation) -> str:
    if one.withdrawal is not None:
        return "withdrawn"
    if one.replaced_by:
        return f"replaced by {', '.join(one.replaced_by)}"
    return "counts"


def _show(api: ReconciliationApi, arguments: argparse.Namespace) -> None:
    one = api.saved(arguments.id)
    if arguments.format:
        print_data(arguments.format, _json(one), [_json(one)])
        return
    lines = {
        "id": one.id,
        "invoice": one.invoice_id,
        "provider": one.provider,
        "days": f"{one.first} to {one.last}, in {one.timezone}",
        "compared by": one.period,
        "saved": f"{_saved(one)} by {one.saved_by}",
        "includes": f"events received until {short_time(one.as_of)}",
        **_totals(one),
        "state": _state(one),
    }
    if one.withdrawal is not None:
        end = one.withdrawal
        lines["withdrawn"] = f"{short_time(end.withdrawn_at)} by {end.withdrawn_by}"
        lines["reason"] = end.reason
    width = max(map(len, lines))
    for name, text in lines.items():
        print(f"{name:<{width}}  {text}")
    if one.withdrawal is None:
        _print_names("For its days, it counts instead of", api.labels(one.replaces))
    _print_names("Later ones count for their days:", api.labels(one.replaced_by))


def _totals(one: SavedReconciliation) -> dict[str, str]:
    if one.totals is None:
        return {}
    return {
        "bill": f"{plain(one.totals.bill)} {one.currency}",
        "tracked": f"{plain(one.totals.tracked)} {one.currency}",
        "reconciled": f"{plain(one.totals.reconciled)} {one.currency}",
        "charges": f"{_charges(one)} match" if _charges(one) else "not known",
    }


def _withdraw(api: ReconciliationApi, arguments: argparse.Namespace) -> None:
    gone = api.withdraw(arguments.id, arguments.reason)
    if arguments.format:
        print_data(arguments.format, _json(gone), [_json(gone)])
        return
    print(f"withdrew {gone.label}; exports do not name its invoice any more")
    _print_names(
        "For days that no later one covers, these count again:",
        api.labels(gone.replaces),
    )


def _print_names(words: str, names: list[str]) -> None:
    if names:
        text = f"{words} {', '.join(names)}."
        print(textwrap.fill(text, _WIDTH, break_on_hyphens=False))


def _json(one: SavedReconciliation) -> dict[str, Any]:
    """Return a saved reconciliation for scripts."""
    document = one.model_dump(mode="json", by_alias=True)
    if one.totals is not None:
        document["totals"] = totals_json(one.totals)
    return document
