"""``outlay metrics``: create, list, change and delete cost metrics."""

from __future__ import annotations

import argparse
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

from outlay._cli.connection import open_api, print_warning
from outlay._cli.default_metrics import create_missing_defaults, is_default
from outlay._cli.exit_codes import ExitCode, UsageError
from outlay._cli.options import (
    add_connection_options,
    add_format_options,
    add_subcommand,
    connection_settings,
    currency_code,
)
from outlay._cli.output import Table, print_data, print_list, print_result, print_table
from outlay.api import DEFAULT_PRODUCT, EnsuredMetric
from outlay.errors import PermissionDeniedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outlay.api import Api, CostMetric, MetricChanges, MetricFields

_DESCRIPTION: Final = """\
A cost metric counts the events of one event type. Each event adds a value in its data,
times a unit cost. Dimensions break the total down.
"""

_EPILOG: Final = """\
examples:
  outlay metrics create --defaults
  outlay metrics create pages --event-type cost.pages --by provider
  outlay metrics list
  outlay metrics update pages --unit-cost 0.002
  outlay metrics delete pages
"""

_CREATE_EPILOG: Final = """\
If a metric of this name exists with the same fields, nothing changes. With other fields
it is an error: change it with 'outlay metrics update'.

Instead of the default metric of an event type, the new metric counts its events, unless
the default was changed.

examples:
  outlay metrics create --defaults
  outlay metrics create inference --event-type cost.ai.inference \\
      --value '$.amount' --by provider='$.provider' --by model --currency USD
  outlay metrics create pages --event-type cost.ocr --value '$.quantity' \\
      --unit page --unit-cost 0.0015
"""

_UPDATE_EPILOG: Final = """\
A change applies to earlier events, too.

examples:
  outlay metrics update pages --unit-cost 0.002
  outlay metrics update inference --by provider --by model --by feature='$.feature'
  outlay metrics update pages --clear unit
"""

_DELETE_EPILOG: Final = """\
The events stay on the server. A new metric of their type counts them again.

example:
  outlay metrics delete pages
"""

_LIST_EPILOG: Final = """\
example:
  outlay metrics list --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(title="actions", required=True)
    _configure_create(
        add_subcommand(actions, "create", _create, "create a cost metric")
    )
    _configure_list(add_subcommand(actions, "list", _list, "list the cost metrics"))
    _configure_update(
        add_subcommand(actions, "update", _update, "change a cost metric")
    )
    _configure_delete(
        add_subcommand(actions, "delete", _delete, "delete a cost metric")
    )


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
    _add_fields(parser)
    add(
        "--product",
        metavar="ID",
        help=f"the metric's product (default: {DEFAULT_PRODUCT})",
    )
    add_format_options(parser)
    add_connection_options(parser)


def _add_fields(parser: argparse.ArgumentParser) -> None:
    """Add the fields that can be given at first, and changed later."""
    add = parser.add_argument
    add(
        "--value",
        dest="value_property",
        metavar="PATH",
        help="path of the value in an event's data (at first: $.amount)",
    )
    add(
        "--by",
        dest="group_by",
        type=_dimension,
        action="append",
        metavar="DIMENSION[=PATH]",
        help="a dimension and the path of its value (default: $.DIMENSION); may be "
        "repeated. Every metric has the customer",
    )
    add(
        "--aggregation",
        metavar="HOW",
        help="SUM, COUNT, AVG, MIN, MAX, UNIQUE_COUNT or LATEST (at first: SUM)",
    )
    add(
        "--currency",
        type=currency_code,
        metavar="CODE",
        help="ISO 4217 (at first: OUTLAY_CURRENCY, or USD)",
    )
    add(
        "--unit-cost",
        type=_decimal,
        metavar="NUMBER",
        help="cost of one unit of the value (at first: 1, the value is money)",
    )
    add("--unit", metavar="NAME", help="unit of the value, such as page")


def _configure_update(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _UPDATE_EPILOG
    add = parser.add_argument
    add("metric", metavar="NAME|ID", help="the metric to change")
    add("--name", metavar="NAME", help="its new name")
    add("--event-type", metavar="TYPE", help="event type that counts")
    _add_fields(parser)
    add(
        "--clear",
        action="append",
        choices=tuple(_CLEARABLE),
        default=[],
        help="remove a field; may be repeated",
    )
    add_format_options(parser)
    add_connection_options(parser)


def _configure_delete(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _DELETE_EPILOG
    parser.add_argument("metric", metavar="NAME|ID", help="the metric to delete")
    add_connection_options(parser)


def _configure_list(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _LIST_EPILOG
    add_format_options(parser)
    add_connection_options(parser)


_CLEARABLE: Final = {
    "value": "value_property",
    "unit": "unit",
    "dimensions": "group_by",
}
"""The fields that ``--clear`` removes."""


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    with open_api(connection_settings(arguments)) as api:
        arguments.action(api, arguments)
    return ExitCode.DONE


def _create(api: Api, arguments: argparse.Namespace) -> None:
    if arguments.defaults:
        _create_defaults(api, arguments)
        return
    if arguments.name is None or arguments.event_type is None:
        raise UsageError("pass NAME and --event-type, or --defaults")
    # The server cannot know that a default of its event type is replaced next.
    warnings: list[str] = []
    with open_api(connection_settings(arguments), on_warning=warnings.append) as quiet:
        metric, created = _ensure(quiet, arguments)
    replaced = _replace_default(api, metric) if created else None
    if arguments.format:
        print_data(arguments.format, _as_json(metric), [_as_json(metric)])
    else:
        _print_created(metric, replaced, created=created)
    if replaced is None:
        for text in warnings:
            print_warning(text)


def _print_created(
    metric: CostMetric, replaced: CostMetric | None, *, created: bool
) -> None:
    if created:
        print(f"created cost metric {metric.name} ({metric.id})")
    else:
        print(f"cost metric {metric.name} ({metric.id}) exists, and stays as it is")
    print(f"  counts {metric.event_type} in {metric.currency}")
    if replaced is not None:
        print(f"  replaces the default metric {replaced.name}")


def _given_fields(arguments: argparse.Namespace) -> Any:  # noqa: ANN401 - a TypedDict
    """Return the fields that the arguments name."""
    names = ("value_property", "aggregation", "currency", "unit_cost", "unit")
    fields: dict[str, Any] = {
        name: value for name in names if (value := getattr(arguments, name)) is not None
    }
    if arguments.group_by:
        fields["group_by"] = dict(arguments.group_by)
    return fields


def _ensure(api: Api, arguments: argparse.Namespace) -> EnsuredMetric:
    """Create a metric, unless it exists. A default of its name does not count."""
    name, event_type = arguments.name, arguments.event_type
    fields: MetricFields = _given_fields(arguments)
    if arguments.product is not None:
        fields["product_id"] = arguments.product
    named = [metric for metric in _readable(api) if metric.name == name]
    if named and not all(map(is_default, named)):
        return api.ensure_metric(name, event_type, **fields)
    return EnsuredMetric(api.create_metric(name, event_type, **fields), created=True)


def _readable(api: Api) -> list[CostMetric]:
    """Return all metrics, or none if the key may create metrics, but not read them."""
    try:
        return api.metrics()
    except PermissionDeniedError:
        return []


def _replace_default(api: Api, new: CostMetric) -> CostMetric | None:
    """Delete the untouched default metric of the same events, and return it.

    Otherwise the events would be in two totals.
    """
    for metric in _readable(api):
        is_other = metric.id != new.id and metric.event_type == new.event_type
        if is_other and is_default(metric):
            api.delete_metric(metric)
            return metric
    return None


def _update(api: Api, arguments: argparse.Namespace) -> None:
    changes: MetricChanges = _given_fields(arguments)
    if arguments.name is not None:
        changes["name"] = arguments.name
    if arguments.event_type is not None:
        changes["event_type"] = arguments.event_type
    for field in arguments.clear:
        changes[_CLEARABLE[field]] = None  # type: ignore[literal-required]  # a key of it
    if not changes:
        raise UsageError("name a field to change, such as --unit-cost 0.002")
    metric = api.update_metric(_selected(api, arguments.metric), **changes)
    text = f"changed cost metric {metric.name} ({metric.id})"
    print_result(arguments.format, _as_json(metric), text)


def _delete(api: Api, arguments: argparse.Namespace) -> None:
    metric = _selected(api, arguments.metric)
    api.delete_metric(metric)
    print(f"deleted cost metric {metric.name} ({metric.id}); its events stay")


def _selected(api: Api, name: str) -> CostMetric:
    """Return the metric with this name or id.

    Raises:
        UsageError: There is none, or several have the name.
    """
    metrics = api.metrics()
    found = [metric for metric in metrics if name in {metric.id, metric.name}]
    if not found:
        there = ", ".join(metric.name for metric in metrics) or "none"
        raise UsageError(f"no cost metric {name!r}; there are: {there}")
    if len(found) > 1:
        ids = ", ".join(metric.id for metric in found)
        raise UsageError(f"several cost metrics are named {name!r}; pass an id: {ids}")
    return found[0]


def _create_defaults(api: Api, arguments: argparse.Namespace) -> None:
    created = create_missing_defaults(api)
    if arguments.format:
        rows = [_as_json(metric) for metric in created]
        print_data(arguments.format, rows, rows)
        return
    for metric in created:
        print(f"created cost metric {metric.name}, which counts {metric.event_type}")
    if not created:
        print("nothing to create: a metric counts each of the event types")


def _list(api: Api, arguments: argparse.Namespace) -> None:
    print_list(
        arguments.format,
        api.metrics(),
        _as_json,
        _print_metrics,
        nothing="no cost metrics yet; type: outlay metrics create --defaults",
    )


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
    return metric.model_dump(
        mode="json",
        by_alias=True,
        exclude_none=True,
        exclude={"merchant_id", "created_at", "updated_at"},
    )


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
