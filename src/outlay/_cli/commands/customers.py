"""``outlay customers``: give customers names for people, and list them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay._cli.exit_codes import ExitCode
from outlay._cli.options import (
    add_action_options,
    add_page_limit,
    add_subcommand,
    connection_settings,
)
from outlay._cli.output import Table, print_list, print_result, print_table
from outlay._cli.revenue_api import RevenueApi

if TYPE_CHECKING:
    import argparse

_DESCRIPTION: Final = """\
A customer's name stands beside its id in margins and on the dashboard. Costs and
revenue need no name, and no registration.
"""

_EPILOG: Final = """\
examples:
  outlay customers name cus_123 'Acme, Inc.'
  outlay customers list
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(title="actions", required=True)
    listing = add_subcommand(actions, "list", _list, "list customers with a name")
    add_page_limit(listing, "customers")
    naming = add_subcommand(actions, "name", _name, "give a customer a name")
    naming.add_argument("id", metavar="ID", help="the customer's id in cost events")
    naming.add_argument("name", metavar="NAME", help="the name, such as 'Acme, Inc.'")
    for one in actions.choices.values():
        one.epilog = _EPILOG
    add_action_options(actions)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    with RevenueApi(connection_settings(arguments)) as api:
        arguments.action(api, arguments)
    return ExitCode.DONE


def _list(api: RevenueApi, arguments: argparse.Namespace) -> None:
    page = api.customers(arguments.limit)
    print_list(
        arguments.format,
        page.data,
        lambda one: {"id": one.id, "name": one.name},
        lambda found: print_table(
            Table(("id", "name"), [(one.id, one.name) for one in found])
        ),
        nothing="no customer has a name; type: outlay customers name ID NAME",
        total=page.pagination.total,
        others="more",
    )


def _name(api: RevenueApi, arguments: argparse.Namespace) -> None:
    api.name_customer(arguments.id, arguments.name)
    result = {"id": arguments.id, "name": arguments.name}
    print_result(arguments.format, result, f"{arguments.id} is {arguments.name}")
