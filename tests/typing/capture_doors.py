"""What type checkers see of decorated functions: checked by mypy, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from decimal import Decimal
from typing import Any, assert_type

import outlay


@outlay.track_call("cost.a", amount=lambda pages: Decimal("0.0015") * pages)
def plain(job: str, *, pages: int = 1) -> int:
    """Return the number of pages."""
    return len(job) * pages


@outlay.track_call("cost.a", amount="0.05", operation_id="job")
async def asynchronous(job: str) -> bytes:
    """Return the name of the job."""
    return job.encode()


@outlay.track_call("cost.a", charged_on_error=True)
def items(job: str) -> Generator[str, int, bool]:
    """Yield a name."""
    return (yield job) > 0


@outlay.operation("cost.a", operation_id=lambda job: f"job-{job}")
async def chunks(job: int) -> AsyncGenerator[bytes]:
    """Yield bytes."""
    yield bytes(job)


class Service:
    """Methods."""

    @outlay.track_call("cost.a", customer_id="who", amount=1)
    def method(self, who: str) -> Service:
        """Return itself."""
        del who
        return self

    @classmethod
    @outlay.track_call("cost.a", amount=1)
    def made(cls, number: int) -> Service:
        """Return one."""
        del number
        return cls()


async def check() -> None:
    """Compare what is seen with what was written."""
    assert_type(plain("a", pages=2), int)
    plain(1)  # type: ignore[arg-type] # the signature is the function's own
    plain("a", page=2)  # type: ignore[call-arg]
    pending: Coroutine[Any, Any, bytes] = asynchronous("a")
    assert_type(await pending, bytes)
    assert_type(items("a"), Generator[str, int, bool])
    assert_type(chunks(1), AsyncGenerator[bytes, None])
    assert_type(Service().method("cus_1"), Service)
    assert_type(Service.made(1), Service)
    assert_type(outlay.bind(plain)("a"), int)


async def check_operations() -> None:
    """An operation is the same, whichever way it is entered."""
    with outlay.operation("cost.a", operation_id=7) as op:
        assert_type(op, outlay.Operation)
        assert_type(op.add("0.1", line="a"), outlay.Receipt)
        op.operation_id = 42
    async with outlay.operation() as other:
        assert_type(other, outlay.Operation)
    assert_type(outlay.current_operation(), outlay.Operation)
    outlay.track_call("cost.a", amount=[1])  # type: ignore[arg-type] # no amount


def check_decorators() -> None:
    """A decorator that is kept serves functions of any type."""
    tracked = outlay.track_call("cost.a", amount=1)
    upper: Callable[[str], str] = tracked(str.upper)
    assert_type(upper("a"), str)
