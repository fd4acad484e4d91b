"""``outlay metrics``: create and list cost metrics."""

from __future__ import annotations

import argparse
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

from outlay._cli.default_metrics import create_missing_defaults, is_default
from outlay._cli.exit_codes import ExitCode, UsageError
from outlay._cli.options import (
    add_connection_options,
    add_format_options,
    add_subcommand,
    connection_settings,
)
from outlay._cli.output import Table, print_data, print_table
from outlay._cli.server_api import DEFAULT_PRODUCT, NewMetric, ServerApi
from outlay.errors import RejectedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outlay._cli.server_api import CostMetric

_DESCRIPTION: Final = """\
A cost metric counts the events of one event type. Each event adds a value in its data,
times a unit cost. Dimensions break the total down.
"""

_EPILOG: Final = """\
examples:
  outlay metrics create --defaults
  outlay metrics create pages --event-type cost.pages --by provider
  outlay metrics list
"""

_CREATE_EPILOG: Final = """\
Instead of the default metric of an event type, the new metric counts its events, unless
the default was changed.

examples:
  outlay metrics create --defaults
  outlay metrics create inference --event-type cost.ai.inference \\
      --value '$.amount' --by provider='$.provider' --by model --currency USD
  outlay metrics create pages --event-type cost.ocr --value '$.quantity' \\
      --unit page --unit-cost 0.0015
"""

_LIST_EPILOG: Final = """\
example:
  outlay metrics list --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _configure_create(
        add_subcommand(actions, "create", _create, "create a cost metric")
    )
    _configure_list(add_subcommand(actions, "list", _list, "list the cost metrics"))


def _configure_create(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _CREATE_EPILOG
    add = parser.add_argument
    add("name", metavar="NAME", nargs="?", help="the metric's name")
    add("--event-type", metavar="TYPE", help="event type that counts; required")
    add(
        "--defaults",
        action="store_true",
        help="create the default metrics of all event types that no metric counts yet",
    )
    add(
        "--value",
        metavar="PATH",
        default="$.amount",
        help="path of the value in an event's data (default: $.amount)",
    )
    add(
        "--by",
        type=_dimension,
        action="append",
        default=[],
        metavar="DIMENSION[=PATH]",
        help="a dimension and the path of its value (default: $.DIMENSION); may be "
        "repeated. Every metric has the customer",
    )
    add(
        "--aggregation",
        default="SUM",
        metavar="HOW",
        help="SUM, COUNT, AVG, MIN, MAX, UNIQUE_COUNT or LATEST (default: SUM)",
    )
    add("--currency", default="USD", metavar="CODE", help="ISO 4217 (default: USD)")
    add(
        "--unit-cost",
        type=_decimal,
        default=Decimal(1),
        metavar="NUMBER",
        help="cost of one unit of the value (default: 1, the value is money)",
    )
    add("--unit", metavar="NAME", help="unit of the value, such as page")
    add(
        "--product",
        default=DEFAULT_PRODUCT,
        metavar="ID",
        help=f"the metric's product (default: {DEFAULT_PRODUCT})",
    )
    add_format_options(parser)
    add_connection_options(parser)


def _configure_list(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _LIST_EPILOG
    add_format_options(parser)
    add_connection_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    with ServerApi(connection_settings(arguments)) as api:
        arguments.action(api, arguments)
    return ExitCode.DONE


def _create(api: ServerApi, arguments: argparse.Namespace) -> None:
    if arguments.defaults:
        _create_defaults(api, arguments)
        return
    if arguments.name is None or arguments.event_type is None:
        raise UsageError("pass NAME and --event-type, or --defaults")
    new = NewMetric(
        name=arguments.name,
        event_type=arguments.event_type,
        value_property=arguments.value,
        aggregation=arguments.aggregation,
        currency=arguments.currency,
        unit_cost=arguments.unit_cost,
        unit=arguments.unit,
        group_by=dict(arguments.by) or None,
        product_id=arguments.product,
    )
    metric = api.create_metric(new)
    replaced = _replace_default(api, metric)
    if arguments.format:
        print_data(arguments.format, _as_json(metric), [_as_json(metric)])
    else:
        print(f"created cost metric {metric.name} ({metric.id})")
        print(f"  counts {metric.event_type} in {metric.currency}")
        if replaced is not None:
            print(f"  replaces the default metric {replaced.name}")


def _replace_default(api: ServerApi, new: CostMetric) -> CostMetric | None:
    """Delete the untouched default metric of the same events, and return it.

    Otherwise the events would be in two totals.
    """
    try:
        metrics = api.metrics()
    except RejectedError:  # The key may create metrics, but not read them.
        return None
    for metric in metrics:
        is_other = metric.id != new.id and metric.event_type == new.event_type
        if is_other and is_default(metric):
            api.delete_metric(metric)
            return metric
    return None


def _create_defaults(api: ServerApi, arguments: argparse.Namespace) -> None:
    created = create_missing_defaults(api)
    if arguments.format:
        rows = [_as_json(metric) for metric in created]
        print_data(arguments.format, rows, rows)
        return
    for metric in created:
        print(f"created cost metric {metric.name}, which counts {metric.event_type}")
    if not created:
        print("nothing to create: a metric counts each of the event types")


def _list(api: ServerApi, arguments: argparse.Namespace) -> None:
    metrics = api.metrics()
    if arguments.format:
        rows = [_as_json(metric) for metric in metrics]
        print_data(arguments.format, rows, rows)
    elif metrics:
        _print_metrics(metrics)
    else:
        print("no cost metrics yet; type: outlay metrics create --defaults")


def _print_metrics(metrics: Sequence[CostMetric]) -> None:
    headers = ("cost", "event type", "value", "dimensions", "unit cost", "", "id")
    rows = [
        (
            metric.name,
            metric.event_type or "-",
            f"{metric.aggregation or '-'} {metric.value_property or ''}".strip(),
            ", ".join(metric.group_by) or "-",
            metric.unit_cost,
            metric.currency,
            metric.id,
        )
        for metric in metrics
    ]
    print_table(Table(headers, rows, hide=("id", "value", "dimensions")))


def _as_json(metric: CostMetric) -> dict[str, Any]:
    return metric.model_dump(mode="json", by_alias=True, exclude_none=True)


def _dimension(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not name or (equals and not path):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME or NAME=PATH")
    return name, path or f"$.{name}"


def _decimal(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number such as 0.0015")
    return number
