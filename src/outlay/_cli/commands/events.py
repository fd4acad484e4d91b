"""``outlay events``: list the events on the server, and show one of them."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from outlay._cli.connection import open_api
from outlay._cli.exit_codes import CommandFailedError, ExitCode, UsageError
from outlay._cli.options import (
    add_connection_options,
    add_format_options,
    add_subcommand,
    condition,
    connection_settings,
    parse_time,
    positive,
)
from outlay._cli.output import Table, plain_or_none, print_data, print_table
from outlay._cli.periods import add_as_of_option, short_time
from outlay.api import EventFilters

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from outlay.api import (
        Api,
        EventCorrection,
        EventDetail,
        EventUse,
        StoredEvent,
    )

_DESCRIPTION: Final = """\
List the events on the server, and show one with its receipt, its price and the cost
metrics that count it. The reference server has this, the live service does not.
"""

_EPILOG: Final = """\
examples:
  outlay events list --customer cus_123 --from 2026-11-01 --limit 20
  outlay events list --cost inference --where model=gpt-4o --csv
  outlay events show evt_019ac3f0b2e7d41c08a5b3f6e2d
  outlay events show --key ok1_7Jb3
"""

_LIST_EPILOG: Final = """\
With --cost, the names of --where are the metric's dimensions: the list shows the events
behind 'outlay costs --cost NAME --where ...'. Without, they are names in the data.

examples:
  outlay events list --customer cus_123 --limit 20
  outlay events list --cost inference --where model=gpt-4o --from 2026-11-01 --json
"""

_SHOW_EPILOG: Final = """\
examples:
  outlay events show evt_019ac3f0b2e7d41c08a5b3f6e2d
  outlay events show --key ok1_7Jb3 --json
"""

_DEFAULT_LIMIT: Final = 50
_SHOWN: Final = {"amount", "price", "provenance"}  # by lines with other names


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(title="actions", required=True)
    _configure_list(add_subcommand(actions, "list", _list, "list events, newest first"))
    _configure_show(add_subcommand(actions, "show", _show, "show one event"))


def _configure_list(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _LIST_EPILOG
    add = parser.add_argument
    add(
        "--type",
        dest="event_types",
        action="append",
        default=[],
        metavar="TYPE",
        help="only this event type; may be repeated",
    )
    add("--customer", metavar="ID", help="only this customer")
    add("--cost", metavar="NAME|ID", help="only events that this cost metric reads")
    add(
        "--where",
        type=condition,
        action="append",
        default=[],
        metavar="DIMENSION=VALUE",
        help="only events with this value; may be repeated",
    )
    add(
        "--provenance",
        action="append",
        default=[],
        choices=("reported", "priced", "manual"),
        help="only amounts of this origin; may be repeated",
    )
    add(
        "--from",
        dest="start",
        type=parse_time,
        metavar="TIME",
        help="start of the period, such as 2026-11-01",
    )
    add(
        "--to",
        dest="end",
        type=parse_time,
        metavar="TIME",
        help="end of the period, which itself does not count",
    )
    add_as_of_option(parser)
    add(
        "--limit",
        type=positive,
        default=_DEFAULT_LIMIT,
        metavar="COUNT",
        help=f"the most events to show (default: {_DEFAULT_LIMIT})",
    )
    add_format_options(parser)
    add_connection_options(parser)


def _configure_show(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _SHOW_EPILOG
    parser.add_argument("event", metavar="ID", nargs="?", help="the event's id")
    parser.add_argument("--key", metavar="KEY", help="or its idempotency key")
    add_format_options(parser)
    add_connection_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    with open_api(connection_settings(arguments)) as api:
        arguments.action(api, arguments)
    return ExitCode.DONE


def _list(api: Api, arguments: argparse.Namespace) -> None:
    found = api.events(**_filters(api, arguments))
    events = list(islice(found, arguments.limit))
    more = next(found, None) is not None
    if arguments.format:
        print_data(
            arguments.format,
            {"events": [_as_json(event) for event in events], "more": more},
            [_as_row(event) for event in events],
        )
    elif events:
        _print_events(events)
        if more:
            print(f"there are more than {arguments.limit}; pass --limit, or a filter")
    else:
        print("no event")


def _filters(api: Api, arguments: argparse.Namespace) -> EventFilters:
    where: dict[str, list[str]] = defaultdict(list)
    for name, value in arguments.where:
        where[name].append(value)
    filters = EventFilters(
        event_types=arguments.event_types,
        customer_id=arguments.customer,
        start=arguments.start,
        end=arguments.end,
        as_of=arguments.as_of,
        where=where,
        provenance=arguments.provenance,
    )
    if arguments.cost is not None:
        named = [
            metric
            for metric in api.metrics()
            if arguments.cost in {metric.id, metric.name}
        ]
        if len(named) != 1:
            raise UsageError(
                f"{len(named)} cost metrics are named {arguments.cost!r}; pass one of "
                "'outlay metrics list', by its id"
            )
        [filters["metric"]] = named
    return filters


def _show(api: Api, arguments: argparse.Namespace) -> None:
    if (arguments.event is None) == (arguments.key is None):
        raise UsageError("pass the event's ID, or --key")
    event_id = arguments.event
    if event_id is None:
        event = next(api.events(idempotency_key=arguments.key), None)
        if event is None:
            raise CommandFailedError(f"no event has the key {arguments.key}")
        event_id = event.id
    detail = api.event(event_id)
    if arguments.format:
        document = {
            **detail.model_dump(mode="json", by_alias=True, exclude_none=True),
            "event": _as_json(detail.event),
        }
        print_data(arguments.format, document, [_as_row(detail.event)])
    else:
        _print_detail(detail)


def _print_events(events: Sequence[StoredEvent]) -> None:
    headers = ("time, UTC", "customer", "event type", "provider", "amount", "", "id")
    rows = [
        (
            event.timestamp.strftime("%Y-%m-%d %H:%M:%S"),
            event.customer_id or "-",
            event.type,
            _text(event, "provider") or "-",
            _amount(event),
            _text(event, "currency"),
            event.id,
        )
        for event in events
    ]
    print_table(Table(headers, rows, hide=("id", "provider")))


def _print_detail(detail: EventDetail) -> None:
    event, receipt = detail.event, detail.receipt
    lines = {
        "event": event.id,
        "type": event.type,
        "customer": event.customer_id or "-",
        "time": event.timestamp.isoformat(),
        "source": event.source,
        "amount": plain_or_none(_amount(event)) or "-",
        "provenance": detail.provenance or "-",
        "price list": _price_list(detail),
        "received": receipt.received_at.isoformat(),
        "key": receipt.idempotency_key,
        "key ends": receipt.key_ends_at.isoformat(),
    }
    for name, value in lines.items():
        print(f"{name:<11} {value}")
    before = ", before corrections" if detail.corrections else ""
    for use in detail.counts:
        print(f"{'counts for':<11} {use.name} ({use.cost_id}): {_use(use)}{before}")
    if not detail.counts:
        print(f"{'counts for':<11} no cost metric")
    for correction in detail.corrections:
        print(_correction_line(correction))
    others = {k: v for k, v in event.data.items() if k not in _SHOWN}
    for name, value in others.items():
        print(f"  {name}: {value}")


def _price_list(detail: EventDetail) -> str:
    price = detail.price or {}
    names = [str(price[name]) for name in ("list", "version") if name in price]
    return " ".join(names) or "-"


def _correction_line(one: EventCorrection) -> str:
    delta = "" if one.delta is None else f" {plain_or_none(one.delta)}"
    return (
        f"{one.kind:<11} {short_time(one.created_at)} by {one.created_by}{delta}: "
        f"{one.reason} ({one.id})"
    )


def _use(use: EventUse) -> str:
    if use.excluded is not None:
        return f"excluded, {use.excluded.replace('_', ' ')}"
    if use.cost is None:
        return "with others, because the metric does not add up"
    return f"{plain_or_none(use.cost)} {use.currency}"


def _amount(event: StoredEvent) -> Decimal | None:
    """Return the amount, if the event has one in the usual place."""
    amount = event.data.get("amount")
    return Decimal(amount) if isinstance(amount, Decimal | int) else None


def _text(event: StoredEvent, name: str) -> str:
    value = event.data.get(name)
    return value if isinstance(value, str) else ""


def _as_json(event: StoredEvent) -> dict[str, Any]:
    return event.model_dump(mode="json", by_alias=True, exclude_none=True)


def _as_row(event: StoredEvent) -> dict[str, object]:
    return {
        "id": event.id,
        "time": event.timestamp.isoformat(),
        "customer": event.customer_id,
        "type": event.type,
        "provider": _text(event, "provider"),
        "amount": plain_or_none(_amount(event)),
        "currency": _text(event, "currency"),
        "provenance": event.provenance,
        "key": event.idempotency_key,
        "received": event.received_at.isoformat(),
    }
