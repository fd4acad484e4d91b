"""Join the charges of a bill with tracked costs.

Charges with an operation id are joined by it. All others are joined by day, model and
kind of unit. What has an operation id is sorted in a temporary database, which SQLite
moves to disk as it grows. So memory grows with days and models, and not with the number
of charges and events.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import msgspec

from outlay._reconcile.advice import probable_source
from outlay._reconcile.cells import FEW, Cell, Key
from outlay._reconcile.days import OtherDays, find_other_days
from outlay._reconcile.deciding import Evidence, decide, is_within_rounding
from outlay._reconcile.matching import (
    common_names,
    join_unknown_kinds,
    keys_of_one_factor,
    models_with_right_prices,
)
from outlay._reconcile.prices import PriceFixes
from outlay._reconcile.quantities import kind_of
from outlay._reconcile.values import (
    ZERO,
    BillError,
    Category,
    Cause,
    Charge,
    Cost,
    LeftOut,
    Result,
    Row,
    add,
    multiply,
    plain,
    total,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from outlay._reconcile.reading import Bill

_MOST_CELLS: Final = 200_000
_MOST_PER_OPERATION: Final = 10_000
_LEAST_PLACES: Final = 2
_MOST_PLACES: Final = 10
_MARGIN: Final = timedelta(hours=14)  # the most that a time zone is off

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_charge: Final = msgspec.msgpack.Decoder(Charge).decode
_decode_cost: Final = msgspec.msgpack.Decoder(Cost).decode


class Window(NamedTuple):
    """The time whose events the reconciliation needs. Both ends are aware."""

    start: datetime
    end: datetime


class Reconciliation:
    """One reconciliation: a bill is read, costs are added, and a result is made.

    Thread safety: one thread. Close it, or use it as a context manager.

    Args:
        bill: The bill.
        usage: Usage reports of the same provider.
        span: The first and the last day that count, such as ``2026-10-01``. If None,
            those of the bill.
    """

    def __init__(
        self,
        bill: Bill,
        usage: Sequence[Bill] = (),
        span: tuple[str, str] | None = None,
    ) -> None:
        self._bill = bill
        self._format = bill.format
        self._zone = bill.format.zone()
        self._span = span
        self._days: set[str] = set()
        self._currency = bill.currency
        self._bill_total = self._our_total = ZERO
        self._charges = self._events = self._places = 0
        self._left_out: dict[str, LeftOut] = {}
        self._cells: dict[Key, Cell] = {}
        self._usage: dict[Key, dict[str, Decimal]] = {}
        self._hours: dict[tuple[str, str], dict[int, Decimal]] = defaultdict(dict)
        self._seen_models: set[str] = set()
        self._has_models = self._has_kinds = self._has_operations = False
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("CREATE TABLE entry (operation, side, content BLOB)")
        self._database.execute("BEGIN")
        try:
            self._read(bill)
            for report in usage:
                self._read_usage(report)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete the temporary database."""
        self._database.close()

    @property
    def provider(self) -> str:
        """The provider, as events name it.

        Raises:
            BillError: Neither the caller nor the format names it.
        """
        if not self._format.provider:
            raise BillError(
                f"{self._format.name} does not say whose bill it is; pass --provider"
            )
        return self._format.provider

    @property
    def currency(self) -> str:
        """The currency of the bill."""
        return self._currency or "USD"

    @property
    def window(self) -> Window:
        """The time of the events, with a margin for other time zones."""
        first, last = self._ends
        start = datetime.combine(_first_day(first), datetime.min.time(), self._zone)
        end = datetime.combine(_day_after(last), datetime.min.time(), self._zone)
        return Window(start - _MARGIN, end + _MARGIN)

    # -- the bill

    def _read(self, bill: Bill) -> None:
        if bill.format.is_usage:
            raise BillError(
                f"{bill.name} is a usage report, which has no amounts; pass the bill "
                "or the cost report, and this file after it"
            )
        for charge, currency, is_left_out in bill.charges():
            reason = self._exclusion(charge, currency, is_left_out=is_left_out)
            if reason:
                before = self._left_out.get(reason, LeftOut(0, ZERO))
                self._left_out[reason] = LeftOut(
                    before.charges + 1, add(before.amount, charge.amount)
                )
                continue
            self._add_charge(charge)
        if not self._charges:
            raise BillError(self._nothing_to_compare(bill.name))

    def _nothing_to_compare(self, name: str) -> str:
        if not self._left_out:
            return f"{name} has no charge"
        reasons = "; ".join(
            f"{reason}: {one.charges}" for reason, one in self._left_out.items()
        )
        return f"{name} has no charge that counts ({reasons}); widen the conditions"

    def _exclusion(self, charge: Charge, currency: str, *, is_left_out: bool) -> str:
        if is_left_out:
            return "left out by a condition"
        if self._currency is None:
            self._currency = currency
        elif currency != self._currency:
            if self._bill.currency is None:
                raise BillError(
                    f"{self._bill.name} has charges in {self._currency} and, in line "
                    f"{charge.line}, in {currency}; they are never added: pass "
                    f"--currency {self._currency}, then --currency {currency}"
                )
            return f"in {currency}"
        if self._span is not None and not self._is_in_span(charge.day):
            return "outside of the period"
        return ""

    def _is_in_span(self, day: str) -> bool:
        if self._span is None:
            return True
        first, last = self._span
        return first[: len(day)] <= day <= last[: len(day)]

    def _add_charge(self, charge: Charge) -> None:
        self._charges += 1
        self._bill_total = add(self._bill_total, charge.amount)
        places = -int(charge.amount.as_tuple().exponent)
        self._places = max(self._places, places)
        self._days.add(charge.day)
        self._has_models = self._has_models or bool(charge.model)
        kind = kind_of(charge.unit)
        self._has_kinds = self._has_kinds or bool(kind)
        if charge.operation_id:
            self._has_operations = True
            self._insert(charge.operation_id, 0, charge)
        else:
            self._cell(Key(charge.day, charge.model, kind)).add_charge(charge)

    def _read_usage(self, report: Bill) -> None:
        for charge, _, is_left_out in report.charges():
            if is_left_out or not self._is_in_span(charge.day):
                continue
            for unit, quantity in charge.quantities.items():
                key = Key(charge.day, charge.model, kind_of(unit))
                if len(self._usage) >= _MOST_CELLS:
                    raise self._too_many(key)
                sums = self._usage.setdefault(key, {})
                sums[unit] = add(sums.get(unit, ZERO), quantity)

    @property
    def _ends(self) -> tuple[str, str]:
        """The first and the last day or month."""
        return self._span or (min(self._days), max(self._days))

    # -- the costs

    def add_cost(self, cost: Cost) -> None:
        """Add a cost. Costs outside of the period show only whether days are shifted.

        Costs with operation ids may come in any order.
        """
        model = self._model_of(cost)
        local = cost.at.astimezone(self._zone)
        day = local.date().isoformat()
        if self._format.period == "month":
            day = day[:7]
        else:
            hours = self._hours[model, cost.kind]
            hour = int(cost.at.timestamp()) // 3600
            hours[hour] = add(hours.get(hour, ZERO), cost.amount)
        first, last = self._ends
        if not first[: len(day)] <= day <= last[: len(day)]:
            return
        self._events += 1
        self._our_total = add(self._our_total, cost.amount)
        self._seen_models.add(model)
        if cost.operation_id:
            self._insert(cost.operation_id, 1, cost)
        else:
            self._cell(Key(day, model, cost.kind)).add_cost(cost)

    def _model_of(self, cost: Cost) -> str:
        """Return the model or service by which bills of this format name a cost."""
        if self._format.columns.service is None:
            return cost.model
        for service, types in self._format.services.items():
            for one in types:
                # A cost in another currency has a type that ends in the currency.
                if cost.event_type == one or cost.event_type.startswith(f"{one}."):
                    return service
        return ""

    def _insert(self, operation: str, side: int, content: Charge | Cost) -> None:
        self._database.execute(
            "INSERT INTO entry VALUES (?, ?, ?)", (operation, side, _encode(content))
        )

    def _cell(self, key: Key) -> Cell:
        cell = self._cells.get(key)
        if cell is None:
            if len(self._cells) >= _MOST_CELLS:
                raise self._too_many(key)
            cell = self._cells[key] = Cell()
        return cell

    def _too_many(self, key: Key) -> BillError:
        return BillError(
            f"there are more than {_MOST_CELLS:,} days, models and units; a column is "
            f"probably an id, such as {key.model!r}: map it as operation"
        )

    # -- the result

    def result(self) -> Result:
        """Return the result. Call it once, after all costs were added."""
        step = self._step()
        rows = _Rows()
        fixes = PriceFixes(self.provider, self.currency, self._bill.name)
        for key, cell in self._operations():
            self._settle(key, cell, Evidence(step), rows, fixes)
        cells = self._joined_cells()
        other_days = self._other_days(cells)
        factors = keys_of_one_factor(cells, step)
        right_prices = models_with_right_prices(cells)
        for key, cell in cells.items():
            evidence = Evidence(
                step,
                is_price=key in factors,
                is_right_price=(key.model, key.kind) in right_prices,
                is_other_day=other_days is not None and key in other_days.keys,
            )
            self._settle(key, cell, evidence, rows, fixes)
        found = rows.all()
        first, last = self._ends
        return Result(
            self.provider,
            self._format.name,
            self.currency,
            self._format.timezone,
            first,
            last,
            self._bill_total,
            self._our_total,
            self._charges,
            self._events,
            self._left_out,
            found,
            tuple(fixes.all()),
            tuple(self._hints(found, other_days)),
            self._format.columns.service is not None,
        )

    def _settle(
        self, key: Key, cell: Cell, evidence: Evidence, rows: _Rows, fixes: PriceFixes
    ) -> None:
        for row in decide(key, cell, evidence):
            if row.category is Category.PRICE:
                fixes.add(key, cell, row)
            is_theirs = row.cause in {Cause.NOT_CAPTURED, Cause.CREDIT}
            note = self._note(key, cell, row) if is_theirs else row.note
            rows.add(row._replace(note=note))

    def _note(self, key: Key, cell: Cell, row: Row) -> str:
        return probable_source(
            self.provider,
            key,
            sorted(cell.descriptions),
            is_seen=key.model in self._seen_models or bool(cell.events),
            is_credit=row.bill < 0,
        )

    def _step(self) -> Decimal:
        """Return the smallest unit of the bill's amounts."""
        places = min(max(self._places, _LEAST_PLACES), _MOST_PLACES)
        return Decimal(1).scaleb(-places)

    def _operations(self) -> Iterator[tuple[Key, Cell]]:
        """Yield a cell for each billed operation. Other costs go to cells by day."""
        found = self._database.execute(
            "SELECT operation, side, content FROM entry ORDER BY operation, side"
        )
        for operation, entries in groupby(found, key=itemgetter(0)):
            charges: list[Charge] = []
            costs: list[Cost] = []
            for _, side, content in entries:
                if side == 0:
                    charges.append(_decode_charge(content))
                else:
                    costs.append(_decode_cost(content))
                if len(charges) + len(costs) > _MOST_PER_OPERATION:
                    raise BillError(
                        f"the operation {operation!r} is there more than "
                        f"{_MOST_PER_OPERATION:,} times, so it is no id of one; name "
                        "another column as operation"
                    )
            if charges:
                yield self._operation(operation, charges, costs)
            else:
                self._add_unbilled(costs)

    def _operation(
        self, operation: str, charges: Sequence[Charge], costs: Sequence[Cost]
    ) -> tuple[Key, Cell]:
        cell = Cell(operations=[operation])
        for charge in charges:
            cell.add_charge(charge)
        for cost in costs:
            cell.add_cost(cost)
        cell.duplicates = _duplicates(costs)
        model = charges[0].model or (self._model_of(costs[0]) if costs else "")
        kind = kind_of(charges[0].unit) or (costs[0].kind if costs else "")
        return Key(charges[0].day, model, kind), cell

    def _add_unbilled(self, costs: Sequence[Cost]) -> None:
        """Add the costs of an operation that no charge names."""
        duplicates = _duplicates(costs)
        for cost in costs:
            day = cost.at.astimezone(self._zone).date().isoformat()
            day = day[:7] if self._format.period == "month" else day
            cell = self._cell(Key(day, self._model_of(cost), cost.kind))
            cell.add_cost(cost)
            if len(cell.operations) < FEW:
                cell.operations.append(cost.operation_id)
            cell.duplicates = add(cell.duplicates, duplicates)
            duplicates = ZERO

    # -- joining by day, model and kind of unit

    def _joined_cells(self) -> dict[Key, Cell]:
        names = self._common_names()
        joined: dict[Key, Cell] = {}
        for key, cell in self._cells.items():
            joined.setdefault(self._common_key(key, names), Cell()).add_cell(cell)
        usage: dict[Key, dict[str, Decimal]] = {}
        for key, quantities in self._usage.items():
            sums = usage.setdefault(self._common_key(key, names), {})
            for unit, quantity in quantities.items():
                sums[unit] = add(sums.get(unit, ZERO), quantity)
        join_unknown_kinds(joined)
        for key, quantities in usage.items():
            if key in joined:
                joined[key].use_report(quantities)
        return dict(sorted(joined.items()))

    def _common_key(self, key: Key, names: Mapping[str, str]) -> Key:
        model = names.get(key.model, key.model) if self._has_models else ""
        return Key(key.day, model, key.kind if self._has_kinds else "")

    def _common_names(self) -> dict[str, str]:
        """Return the names that bring the models or services of both sides together."""
        billed = {key.model for key, cell in self._cells.items() if cell.charges}
        tracked = {key.model for key, cell in self._cells.items() if cell.events}
        if self._format.columns.service is not None:
            # Events know no services but those of the format.
            known = billed & {*self._format.services}
            return {} if known else dict.fromkeys(billed | tracked, "")
        return common_names(billed, tracked, {key.model for key in self._usage})

    # -- days of another time zone

    def _other_days(self, cells: Mapping[Key, Cell]) -> OtherDays | None:
        if self._format.period == "month" or self._has_operations:
            return None
        names = self._common_names()
        hours: dict[tuple[str, str], dict[int, Decimal]] = {}
        for (model, kind), sums in self._hours.items():
            key = self._common_key(Key("", model, kind), names)
            merged = hours.setdefault((key.model, key.kind), {})
            for hour, amount in sums.items():
                merged[hour] = add(merged.get(hour, ZERO), amount)
        step = self._step()
        differing = {
            key: cell
            for key, cell in cells.items()
            if cell.bill != cell.ours and not is_within_rounding(cell, step)
        }
        return find_other_days(differing, cells, hours, self._ends, step)

    def _hints(
        self, rows: Sequence[Row], other_days: OtherDays | None
    ) -> Iterator[str]:
        if other_days is not None:
            yield (
                f"With the days of {other_days.name}, the bill and the costs agree "
                f"better: {plain(other_days.difference)} instead of "
                f"{plain(other_days.present)} {self.currency} differ. Set the bill's "
                "time zone, such as America/Los_Angeles."
            )
        if not self._events:
            yield (
                f"No event of the provider {self.provider!r} in {self.currency} is in "
                "this period. Look at the names with: outlay costs --by provider"
            )
        if self._has_operations and not any(
            row.category in {Category.MATCHED, Category.ROUNDING, Category.PRICE}
            for row in rows
        ):
            yield (
                "No operation id of the bill is the operation id of an event. Look at "
                f"one with: outlay events --where provider={self.provider}"
            )


class _Rows:
    """Rows, of which those of one key are added up."""

    def __init__(self) -> None:
        self._rows: dict[tuple[object, ...], Row] = {}

    def add(self, row: Row) -> None:
        """Add a row."""
        before = self._rows.get(row.key)
        if before is None:
            self._rows[row.key] = row
            return
        self._rows[row.key] = before._replace(
            bill=add(before.bill, row.bill),
            ours=add(before.ours, row.ours),
            charges=before.charges + row.charges,
            events=before.events + row.events,
            operations=(*before.operations, *row.operations)[:FEW],
        )

    def all(self) -> tuple[Row, ...]:
        """Return the rows, by category, and the largest difference first."""
        order = {category: place for place, category in enumerate(Category)}
        return tuple(
            sorted(
                self._rows.values(),
                key=lambda row: (
                    order[row.category],
                    -row.difference.copy_abs(),
                    row.day,
                    row.model,
                    row.unit,
                    row.cause,
                ),
            )
        )


def _duplicates(costs: Iterable[Cost]) -> Decimal:
    """Return the sum of the costs that repeat another one of the same operation."""
    same = Counter((one.event_type, one.line, one.model, one.amount) for one in costs)
    return total(
        multiply(amount, Decimal(count - 1)) for (*_, amount), count in same.items()
    )


def _first_day(day: str) -> date:
    return date.fromisoformat(day if len(day) > len("2026-10") else f"{day}-01")


def _day_after(day: str) -> date:
    if len(day) > len("2026-10"):
        return date.fromisoformat(day) + timedelta(days=1)
    first = _first_day(day)
    return (first.replace(day=28) + timedelta(days=4)).replace(day=1)
