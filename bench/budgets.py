"""Seconds that the server takes to evaluate 10,000 budgets at once.

The database has one metric, 1,000 customers, 10 providers and 90 days. A tenth of the
budgets count all costs of a customer, the others those of one provider as well. Time
of the CPU does not depend on what else the machine does.

Run it with ``python -m bench.budgets 100000 10000000``. With ``--keep FOLDER`` it uses
a copy of the database that ``bench.server_queries`` keeps there.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from decimal import Decimal
from pathlib import Path
from typing import Final

from bench import query_database
from bench._sizes import size_options
from bench.query_database import CUSTOMERS, HOUR, PROVIDERS, START
from outlay.server._records import Budget, BudgetPeriod
from outlay.server._services.budgets import Evaluation, newly_passed
from outlay.server._services.query_services import QueryServices
from outlay.server._storage.sqlite.store import SqliteStore

_BUDGETS: Final = 10_000
_DAY: Final = 24 * HOUR
_NOW: Final = START + 45 * _DAY


def main() -> None:
    """Print the seconds of one evaluation for each size."""
    options = size_options(__doc__, __name__, keeps_databases=True)
    print(f"{'events':>12}{'budgets':>9}{'passed':>8}{'CPU s':>7}")
    for count in options.events:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "budgets.db"
            kept = options.keep and options.keep / f"queries-{count}.db"
            if kept is not None and kept.exists():
                shutil.copyfile(kept, path)
            else:
                query_database.build(path, count)
            _measure(count, path)


def _measure(count: int, path: Path) -> None:
    store = SqliteStore(path, dedupe_window=HOUR, durable=False)
    try:
        for number in range(_BUDGETS):
            store.put_budget(_budget(number))
        services = QueryServices(store, "USD")
        wanted = Evaluation("org_a", None, _NOW - 2 * _DAY)
        start = time.thread_time()
        passed = newly_passed(services, wanted, _NOW)
        took = time.thread_time() - start
    finally:
        store.close()
    print(f"{count:>12,}{_BUDGETS:>9,}{len(passed):>8,}{took:>7.2f}")


def _budget(number: int) -> Budget:
    customer, kind = number % CUSTOMERS, number // CUSTOMERS
    dimensions = {} if kind == 0 else {"provider": f"provider-{kind % PROVIDERS}"}
    return Budget(
        f"b{number}",
        "org_a",
        "Budget",
        Decimal(1),
        "USD",
        BudgetPeriod.MONTH,
        "UTC",
        f"cus_{customer}",
        dimensions,
        (80, 100),
        "r1",
        _NOW,
        _NOW,
        _NOW,
    )


if __name__ == "__main__":
    main()
