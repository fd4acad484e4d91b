"""Join the charges of a bill with tracked costs.

Charges with an operation id are joined by it. All others are joined by day, model and
kind of unit. So memory grows with days and models, and not with the number of charges
and events.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Self

from outlay._reconcile.advice import probable_source
from outlay._reconcile.billed import BilledCharges
from outlay._reconcile.cell_table import CellTable, CommonNames
from outlay._reconcile.cells import FEW, Cell, Key
from outlay._reconcile.days import OtherDays, find_other_days
from outlay._reconcile.deciding import Evidence, decide, is_within_rounding
from outlay._reconcile.hourly import HourlySums
from outlay._reconcile.matches import CostMatches, operation_match
from outlay._reconcile.matching import (
    common_names,
    keys_of_one_factor,
    models_with_right_prices,
)
from outlay._reconcile.operations import OperationEntries
from outlay._reconcile.prices import PriceFixes
from outlay._reconcile.quantities import kind_of
from outlay._reconcile.result_rows import ResultRows
from outlay._reconcile.spans import Span
from outlay._reconcile.values import (
    ZERO,
    BillError,
    Category,
    Cause,
    Result,
    add,
    plain,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from decimal import Decimal

    from outlay._reconcile.operations import Operation
    from outlay._reconcile.reading import Bill
    from outlay._reconcile.spans import Window
    from outlay._reconcile.values import Charge, Cost, Row


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
        self._name = bill.name
        self._format = bill.format
        self._zone = bill.format.zone()
        self._billed = BilledCharges(bill, None if span is None else Span(*span))
        self._cells = CellTable()
        self._usage: dict[Key, dict[str, Decimal]] = {}
        self._hours = HourlySums()
        self._our_total = ZERO
        self._events = 0
        self._seen_models: set[str] = set()
        self._groups = CostMatches(self._zone, bill.format.period)
        self._reconciled = ZERO
        self._reconciled_charges = 0
        self._entries = OperationEntries()
        try:
            for charge in self._billed.read():
                self._add_charge(charge)
            for report in usage:
                self._billed.read_usage(report, self._usage)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete the temporary database."""
        self._entries.close()

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
        return self._billed.currency

    @property
    def window(self) -> Window:
        """The time of the events, with a margin for other time zones."""
        return self._span.window(self._zone)

    @property
    def span(self) -> Span:
        """The first and the last day that count, or month."""
        return self._span

    @property
    def timezone(self) -> str:
        """The IANA time zone of the bill's days."""
        return self._format.timezone

    @property
    def period(self) -> str:
        """The unit of comparison, ``day`` or ``month``."""
        return self._format.period

    @cached_property
    def _span(self) -> Span:
        return self._billed.span

    # -- both sides

    def _add_charge(self, charge: Charge) -> None:
        if charge.operation_id:
            self._entries.add_charge(charge)
            return
        key = Key(charge.day, charge.model, kind_of(charge.unit))
        self._cells.cell(key).add_charge(charge)

    def add_cost(self, cost: Cost) -> None:
        """Add a cost. Costs outside of the period show only whether days are shifted.

        Costs with operation ids may come in any order.
        """
        model = self._model_of(cost)
        day = self._day_of(cost)
        if self._format.period != "month":
            self._hours.add(model, cost)
        if not self._span.contains(day):
            return
        self._events += 1
        self._our_total = add(self._our_total, cost.amount)
        self._seen_models.add(model)
        if cost.operation_id:
            self._entries.add_cost(cost)
        else:
            self._add_to_cell(self._cells.cell(Key(day, model, cost.kind)), cost)

    def _add_to_cell(self, cell: Cell, cost: Cost) -> None:
        cell.add_cost(cost)
        cell.groups.add(self._groups.group(cost))

    def _day_of(self, cost: Cost) -> str:
        """Return the day of a cost, or its month, as the bill has it."""
        return self._groups.day(cost)

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

    # -- the result

    @property
    def reconciled(self) -> Decimal:
        """The sum of the costs that `matches` name. Ask after `result`."""
        return self._reconciled

    @property
    def reconciled_charges(self) -> int:
        """The number of charges that agree with these costs. Ask after `result`."""
        return self._reconciled_charges

    def matches(self) -> Iterator[bytes]:
        """Yield the digests of the costs that agree with the bill; see `matches`.

        All of a match agrees, up to the rounding of the bill. If the bill names
        operations, only operations are matches. Ask after `result`.
        """
        return self._entries.matches()

    def result(self) -> Result:
        """Return the result. Call it once, after all costs were added."""
        step = self._billed.step
        rows = ResultRows()
        fixes = PriceFixes(self.provider, self.currency, self._name)
        for key, cell in self._operations():
            self._settle(key, cell, Evidence(step), rows, fixes)
        names = self._common_names()
        cells = self._cells.joined(self._usage, names)
        other_days = self._other_days(cells, names)
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
        return Result(
            self.provider,
            self._format.name,
            self.currency,
            self._format.timezone,
            *self._span,
            self._billed.total,
            self._our_total,
            self._billed.count,
            self._events,
            self._billed.left_out,
            found,
            tuple(fixes.all()),
            tuple(self._hints(found, other_days)),
            self._format.columns.service is not None,
        )

    def _settle(
        self,
        key: Key,
        cell: Cell,
        evidence: Evidence,
        rows: ResultRows,
        fixes: PriceFixes,
    ) -> None:
        found = decide(key, cell, evidence)
        if cell.charges and cell.events and all(row.is_match for row in found):
            self._note_match(cell)
        for row in found:
            if row.category is Category.PRICE:
                fixes.add(key, cell, row)
            is_theirs = row.cause in {Cause.NOT_CAPTURED, Cause.CREDIT}
            note = self._note(key, cell, row) if is_theirs else row.note
            rows.add(row._replace(note=note))

    def _note_match(self, cell: Cell) -> None:
        """Keep the matches of a cell whose costs all agree with the bill."""
        if not self._billed.has_operations:
            self._entries.add_matches(group.match for group in cell.groups)
        elif not cell.groups:
            self._entries.add_matches(map(operation_match, cell.operations))
        else:  # a group may have costs of a billed operation that does not agree
            return
        self._reconciled = add(self._reconciled, cell.ours)
        self._reconciled_charges += cell.charges

    def _note(self, key: Key, cell: Cell, row: Row) -> str:
        return probable_source(
            self.provider,
            key,
            sorted(cell.descriptions),
            is_seen=key.model in self._seen_models or bool(cell.events),
            is_credit=row.bill < 0,
        )

    def _operations(self) -> Iterator[tuple[Key, Cell]]:
        """Yield a cell for each billed operation. Other costs go to cells by day."""
        for one in self._entries.operations():
            if one.charges:
                yield self._billed_operation(one)
            else:
                self._add_unbilled(one)

    def _billed_operation(self, one: Operation) -> tuple[Key, Cell]:
        cell = Cell(operations=[one.id])
        for charge in one.charges:
            cell.add_charge(charge)
        for cost in one.costs:
            cell.add_cost(cost)
        cell.duplicates = one.duplicates
        first = one.charges[0]
        model = first.model or (self._model_of(one.costs[0]) if one.costs else "")
        kind = kind_of(first.unit) or (one.costs[0].kind if one.costs else "")
        return Key(first.day, model, kind), cell

    def _add_unbilled(self, one: Operation) -> None:
        """Add the costs of an operation that no charge names."""
        duplicates = one.duplicates
        for cost in one.costs:
            key = Key(self._day_of(cost), self._model_of(cost), cost.kind)
            cell = self._cells.cell(key)
            self._add_to_cell(cell, cost)
            if len(cell.operations) < FEW:
                cell.operations.append(cost.operation_id)
            cell.duplicates = add(cell.duplicates, duplicates)
            duplicates = ZERO

    def _common_names(self) -> CommonNames:
        """Return the names that bring the models or services of both sides together."""
        billed, tracked = self._cells.billed_models(), self._cells.tracked_models()
        if self._format.columns.service is None:
            models = common_names(billed, tracked, {key.model for key in self._usage})
        elif billed & {*self._format.services}:
            models = {}
        else:  # events know no services but those of the format
            models = dict.fromkeys(billed | tracked, "")
        return CommonNames(models, self._billed.has_models, self._billed.has_kinds)

    def _other_days(
        self, cells: Mapping[Key, Cell], names: CommonNames
    ) -> OtherDays | None:
        """Return the days of another time zone, if they explain differences."""
        if self._format.period == "month" or self._billed.has_operations:
            return None
        step = self._billed.step
        differing = {
            key: cell
            for key, cell in cells.items()
            if cell.bill != cell.ours and not is_within_rounding(cell, step)
        }
        hours = self._hours.joined(names)
        return find_other_days(differing, cells, hours, self._span, step)

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
        if self._billed.has_operations and not any(
            row.category in {Category.MATCHED, Category.ROUNDING, Category.PRICE}
            for row in rows
        ):
            yield (
                "No operation id of the bill is the operation id of an event. Look at "
                f"one with: outlay events --where provider={self.provider}"
            )
