"""Void or adjust events, by id or by filter, for the commands that do it."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any, Final

from outlay._cli.exit_codes import UsageError
from outlay._cli.money_api import MoneyApi
from outlay._cli.options import (
    add_connection_options,
    add_format_options,
    condition,
    connection_settings,
    parse_time,
)
from outlay._cli.output import plain_or_none, pluralize, print_data

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from outlay.api import EventCorrection

_PAST: Final = {"void": "voided", "adjust": "adjusted"}


def add_correction_options(parser: argparse.ArgumentParser) -> None:
    """Add the events, the filter, the reason and the connection."""
    add = parser.add_argument
    add("events", nargs="*", metavar="EVENT", help="the ids of events, evt_…")
    add("--reason", required=True, metavar="TEXT", help="the reason, for the record")
    group = parser.add_argument_group("many events, instead of ids")
    add = group.add_argument
    add(
        "--type",
        dest="types",
        action="append",
        default=[],
        metavar="TYPE",
        help="only events of this type; may be repeated",
    )
    add(
        "--customer",
        dest="customers",
        action="append",
        default=[],
        metavar="ID",
        help="only events of this customer; may be repeated",
    )
    add("--from", dest="start", type=parse_time, metavar="TIME", help="start")
    add(
        "--to",
        dest="end",
        type=parse_time,
        metavar="TIME",
        help="end, which itself does not count",
    )
    add(
        "--where",
        type=condition,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="only events with this value in their data, such as model=gpt-5; a name "
        "that starts with $ is a JSONPath",
    )
    add("--dry-run", action="store_true", help="count the events, and change nothing")
    parser.add_argument(
        "--key",
        metavar="TEXT",
        help="idempotency key; a run that was cut short continues under the same key",
    )
    add_format_options(parser)
    add_connection_options(parser)


def run_correction(
    kind: str, arguments: argparse.Namespace, amount: Mapping[str, str]
) -> None:
    """Correct the events that the arguments name.

    Args:
        kind: ``void`` or ``adjust``.
        arguments: The arguments of `add_correction_options`.
        amount: The metric and the amount of an adjustment.
    """
    given = _filter(arguments)
    if bool(arguments.events) == bool(given):
        raise UsageError(
            "pass the ids of events, or a filter such as --type and --from"
        )
    if arguments.events and arguments.dry_run:
        raise UsageError("--dry-run counts what a filter finds; pass a filter")
    key = arguments.key or f"cli-{secrets.token_hex(12)}"
    body = {"reason": arguments.reason, **amount}
    with MoneyApi(connection_settings(arguments)) as api:
        if arguments.events:
            _print_corrections(
                kind,
                arguments,
                [
                    api.correct_event(
                        event_id, kind, {**body, "idempotencyKey": f"{key}:{event_id}"}
                    )
                    for event_id in arguments.events
                ],
            )
            return
        found = api.correct_events(
            {
                **body,
                **given,
                "kind": kind,
                "idempotencyKey": key,
                "dryRun": arguments.dry_run,
            }
        )
    if arguments.format:
        document = {"dryRun": arguments.dry_run, "key": key, **found.model_dump()}
        del document["next_cursor"]
        print_data(arguments.format, document, [document])
        return
    done = f"would be {_PAST[kind]}" if arguments.dry_run else _PAST[kind]
    print(f"{pluralize(found.corrected, 'event')} {done}")
    if found.unchanged:
        print(f"  {pluralize(found.unchanged, 'event')} left as they were")


def correction_json(one: EventCorrection) -> dict[str, Any]:
    """Return a correction for scripts."""
    return {
        "id": one.id,
        "kind": one.kind,
        "eventId": one.event_id,
        "reason": one.reason,
        "createdAt": one.created_at.isoformat(),
        "createdBy": one.created_by,
        "costId": one.cost_id,
        "delta": plain_or_none(one.delta),
        "reverts": one.reverts,
    }


def _print_corrections(
    kind: str, arguments: argparse.Namespace, made: list[EventCorrection]
) -> None:
    if arguments.format:
        rows = [correction_json(one) for one in made]
        print_data(arguments.format, rows, rows)
        return
    for one in made:
        print(f"{_PAST[kind]} {one.event_id} by {one.id}")
    print(f"type: outlay corrections revert {made[-1].id} --reason TEXT, to undo it")


def _filter(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the filter in the form of the API."""
    values: dict[str, list[str]] = {}
    for name, value in arguments.where:
        path = name if name.startswith("$") else f"$.{name}"
        values.setdefault(path, []).append(value)
    given = {
        "types": arguments.types,
        "customerIds": arguments.customers,
        "from": arguments.start and arguments.start.isoformat(),
        "to": arguments.end and arguments.end.isoformat(),
        "filterBy": json.dumps(values) if values else None,
    }
    return {name: value for name, value in given.items() if value}
