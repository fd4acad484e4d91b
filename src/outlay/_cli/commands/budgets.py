"""``outlay budgets``: list, set, delete and test limits for costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from outlay._cli.connection import open_api, print_warning
from outlay._cli.exit_codes import ExitCode, UsageError
from outlay._cli.options import (
    add_action_options,
    add_subcommand,
    condition,
    connection_settings,
    currency_code,
    positive_decimal,
)
from outlay._cli.output import (
    Table,
    plain,
    pluralize,
    print_data,
    print_list,
    print_result,
    print_table,
)
from outlay._cli.periods import short_time

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from outlay.api import Api, Budget, BudgetFields, Webhook

_DESCRIPTION: Final = """\
A budget is a limit for the costs of a period. The server reports each threshold that
the costs pass, once, to its webhooks. No cost is refused.
"""

_EPILOG: Final = """\
examples:
  outlay budgets set acme 500 --customer cus_1 --time-zone Europe/Berlin
  outlay budgets list
  outlay budgets webhook https://example.com/hook
  outlay budgets test
  outlay budgets delete acme
"""

_LIST_EPILOG: Final = """\
example:
  outlay budgets list --customer cus_1 --json
"""

_SET_EPILOG: Final = """\
examples:
  outlay budgets set acme 500 --customer cus_1 --name 'Acme, monthly'
  outlay budgets set llm 99.50 --currency EUR --period day --where provider=openai
"""

_DELETE_EPILOG: Final = """\
example:
  outlay budgets delete acme
"""

_WEBHOOK_EPILOG: Final = """\
examples:
  outlay budgets webhook https://example.com/hook
  outlay budgets webhook
  outlay budgets webhook --rotate whk_5f3a9c0d2b1e4f6a8c7d9e0f
  outlay budgets webhook --delete whk_5f3a9c0d2b1e4f6a8c7d9e0f
"""

_TEST_EPILOG: Final = """\
example:
  outlay budgets test
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(title="actions", required=True)
    listing = add_subcommand(
        actions, "list", _list, "list budgets with the costs of their periods"
    )
    listing.epilog = _LIST_EPILOG
    listing.add_argument(
        "--customer", metavar="ID", help="only the budgets of this customer"
    )
    _configure_set(add_subcommand(actions, "set", _set, "create or replace a budget"))
    delete = add_subcommand(actions, "delete", _delete, "delete a budget")
    delete.epilog = _DELETE_EPILOG
    delete.add_argument("id", metavar="ID", help="the id of the budget")
    webhook = add_subcommand(
        actions, "webhook", _webhook, "list, add or delete receivers of messages"
    )
    webhook.epilog = _WEBHOOK_EPILOG
    webhook.add_argument(
        "url", metavar="URL", nargs="?", help="address to add (default: list all)"
    )
    change = webhook.add_mutually_exclusive_group()
    change.add_argument(
        "--delete", metavar="ID", help="delete the webhook with this id"
    )
    change.add_argument(
        "--rotate",
        metavar="ID",
        help="give the webhook with this id a new secret; the old one signs for a day "
        "as well",
    )
    test = add_subcommand(
        actions, "test", _test, "send a test message to each webhook, now"
    )
    test.epilog = _TEST_EPILOG
    add_action_options(actions)


def _configure_set(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _SET_EPILOG
    add = parser.add_argument
    add("id", metavar="ID", help="an id of yours, such as acme")
    add(
        "limit",
        metavar="LIMIT",
        type=positive_decimal("limit", "500 or 99.50"),
        help="the limit of a period",
    )
    add("--name", help="a name for people (default: the id)")
    add(
        "--currency",
        type=currency_code,
        metavar="CODE",
        help="currency of the costs that count (default: the setting currency)",
    )
    add(
        "--period",
        choices=("day", "week", "month"),
        default="month",
        help="length of a period (default: month)",
    )
    add(
        "--time-zone",
        default="UTC",
        metavar="ZONE",
        help="zone in which periods begin, such as Europe/Berlin (default: UTC)",
    )
    add(
        "--customer",
        metavar="ID",
        help="only the costs of this customer (default: all)",
    )
    add(
        "--where",
        type=condition,
        action="append",
        default=[],
        metavar="DIMENSION=VALUE",
        help="only costs with this value; may be repeated",
    )
    add(
        "--threshold",
        dest="thresholds",
        type=int,
        action="append",
        metavar="PERCENT",
        help="percentage to report; may be repeated (default: 80 and 100)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    with open_api(connection_settings(arguments)) as api:
        code: int = arguments.action(api, arguments)
    return code


def _list(api: Api, arguments: argparse.Namespace) -> int:
    print_list(
        arguments.format,
        api.budgets(customer_id=arguments.customer),
        _budget_json,
        _print_budgets,
        nothing="no budgets yet; type: outlay budgets set ID LIMIT",
    )
    return ExitCode.DONE


def _set(api: Api, arguments: argparse.Namespace) -> int:
    fields: BudgetFields = {
        "period": arguments.period,
        "time_zone": arguments.time_zone,
        "customer_id": arguments.customer,
        "dimensions": dict(arguments.where),
    }
    if arguments.currency:
        fields["currency"] = arguments.currency
    if arguments.thresholds:
        fields["thresholds"] = arguments.thresholds
    budget = api.set_budget(
        arguments.id, arguments.name or arguments.id, arguments.limit, **fields
    )
    for warning in budget.state.warnings:
        print_warning(warning)
    if arguments.format:
        row = _budget_json(budget)
        print_data(arguments.format, row, [row])
    else:
        _print_budgets([budget])
    return ExitCode.DONE


def _delete(api: Api, arguments: argparse.Namespace) -> int:
    api.delete_budget(arguments.id)
    _print_deleted(arguments.id, arguments)
    return ExitCode.DONE


def _webhook(api: Api, arguments: argparse.Namespace) -> int:
    if arguments.url is not None and (arguments.delete or arguments.rotate):
        raise UsageError("pass a URL to add, or --delete ID, or --rotate ID")
    if arguments.delete is not None:
        api.delete_webhook(arguments.delete)
        _print_deleted(arguments.delete, arguments)
    elif arguments.rotate is not None:
        _print_secret(api.rotate_webhook(arguments.rotate), "rotated", arguments)
    elif arguments.url is not None:
        _print_secret(api.add_webhook(arguments.url), "added", arguments)
    else:
        _list_webhooks(api, arguments)
    return ExitCode.DONE


def _print_secret(webhook: Webhook, word: str, arguments: argparse.Namespace) -> None:
    if arguments.format:
        row = {**_webhook_json(webhook), "secret": webhook.secret}
        print_data(arguments.format, row, [row])
        return
    print(f"{word} {webhook.id}\n\n  secret  {webhook.secret}\n")
    if webhook.old_secret_ends_at is not None:
        until = short_time(webhook.old_secret_ends_at)
        print(f"Until {until} UTC, messages have a signature of each secret.")
    print("The secret is not shown again. Now type: outlay budgets test")


def _list_webhooks(api: Api, arguments: argparse.Namespace) -> None:
    webhooks = api.webhooks()
    if arguments.format:
        rows = [_webhook_json(one) for one in webhooks]
        print_data(arguments.format, rows, rows)
    elif webhooks:
        headers = ("id", "status", "waiting", "last error", "url")
        cells = [
            (one.id, one.status, one.waiting_messages, one.last_error or "-", one.url)
            for one in webhooks
        ]
        print_table(Table(headers, cells, hide=("url",)))
    else:
        print("no webhooks yet; type: outlay budgets webhook URL")


def _test(api: Api, arguments: argparse.Namespace) -> int:
    rows = []
    for webhook in api.webhooks():
        outcome = api.test_webhook(webhook.id)
        rows.append(
            {
                "id": webhook.id,
                "delivered": outcome.delivered,
                "error": outcome.error,
                "messageId": outcome.message_id,
            }
        )
    if arguments.format:
        print_data(arguments.format, rows, rows)
    else:
        for row in rows:
            outcome_text = (
                "delivered" if row["delivered"] else f"failed: {row['error']}"
            )
            print(f"{row['id']}  {outcome_text}")
        if not rows:
            print("no webhooks yet; type: outlay budgets webhook URL")
    is_done = all(row["delivered"] for row in rows)
    return ExitCode.DONE if is_done else ExitCode.REFUSED


def _print_budgets(budgets: Sequence[Budget]) -> None:
    headers = ("budget", "for", "period", "spent", "limit", "", "%", "passed", "name")
    rows = [
        (
            one.id,
            _scope(one),
            f"{one.period}, {one.time_zone}",
            one.state.spent,
            one.limit,
            one.currency,
            one.state.share,
            ", ".join(f"{each.percent} %" for each in one.state.passed) or "-",
            one.name,
        )
        for one in budgets
    ]
    print_table(Table(headers, rows, hide=("name", "period", "for")))
    print(pluralize(len(budgets), "budget"))


def _scope(budget: Budget) -> str:
    parts = [f"{name}={value}" for name, value in sorted(budget.dimensions.items())]
    if budget.customer_id is not None:
        parts.insert(0, budget.customer_id)
    return ", ".join(parts) or "all costs"


def _print_deleted(identifier: str, arguments: argparse.Namespace) -> None:
    result = {"id": identifier, "deleted": True}
    print_result(arguments.format, result, f"deleted {identifier}")


def _budget_json(budget: Budget) -> dict[str, Any]:
    state = budget.state
    return {
        "id": budget.id,
        "name": budget.name,
        "customer": budget.customer_id,
        "dimensions": dict(budget.dimensions),
        "period": budget.period,
        "timeZone": budget.time_zone,
        "from": state.period.start.isoformat(),
        "to": state.period.end.isoformat(),
        "spent": plain(state.spent),
        "limit": plain(budget.limit),
        "currency": budget.currency,
        "sharePercent": plain(state.share),
        "thresholds": list(budget.thresholds),
        "passed": [
            {
                "percent": one.percent,
                "passedAt": one.passed_at.isoformat(),
                "spent": plain(one.spent),
            }
            for one in state.passed
        ],
        "warnings": list(state.warnings),
    }


def _webhook_json(webhook: Webhook) -> dict[str, Any]:
    return webhook.model_dump(mode="json", by_alias=True, exclude={"secret"})
