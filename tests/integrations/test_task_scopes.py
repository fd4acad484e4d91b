"""Tasks within one process: what is sent along, and what is left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from celery import Celery  # type: ignore[import-untyped]
from dramatiq.brokers.stub import StubBroker
from rq.job import Job
from rq.worker import Worker

import outlay
from outlay._capture.context.message_headers import HEADER
from outlay.integrations import dramatiq as integration
from outlay.integrations._tasks import message_headers, task_scope
from tests.integrations.customers import spend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from outlay.testing import Costs


@pytest.fixture
def broker() -> Iterator[StubBroker]:
    """Return a broker in memory, whose actors an own worker runs."""
    broker = StubBroker()
    broker.add_middleware(integration.OutlayMiddleware())
    dramatiq.set_broker(broker)
    worker = dramatiq.Worker(broker, worker_timeout=10, worker_threads=2)
    worker.start()
    yield broker
    worker.stop()


def test_a_pipeline_keeps_its_customer(costs: Costs, broker: StubBroker) -> None:
    """The worker sends its second message when the first one's actor has ended."""

    @dramatiq.actor(broker=broker)
    def work(number: int) -> int:
        spend(number)
        return number + 1

    with outlay.attribute(customer_id="cus_1"):
        (work.message(1) | work.message()).run()  # type: ignore[no-untyped-call, call-arg]  # the second gets the first's result
    broker.join(work.queue_name)

    assert [event.subject for event in costs.events] == ["cus_1", "cus_1"]


def test_messages_for_the_callbacks_of_a_group_have_the_customer() -> None:
    """The worker that ends the group's last actor sends them."""
    nested: dict[str, Any] = {"options": {}}
    options = {"group_completion_callbacks": [nested]}
    message: Any = dramatiq.Message(
        queue_name="q", actor_name="a", args=(), kwargs={}, options=options
    )

    with outlay.attribute(customer_id="cus_1"):
        integration.OutlayMiddleware().before_enqueue(StubBroker(), message, 0)
    with outlay.attribute(customer_id="cus_2"):  # tried again somewhere else
        integration.OutlayMiddleware().before_enqueue(StubBroker(), message, 0)

    assert "customer_id=cus_1;" in message.options[HEADER]
    assert "customer_id=cus_1;" in nested["options"][HEADER]


def test_an_eager_task_keeps_the_customer_around_it(costs: Costs) -> None:
    """Tests of applications run Celery's tasks without a worker."""
    outlay.instrument("celery")
    app = Celery("eager", broker="memory://")
    app.conf.task_always_eager = True
    try:
        with outlay.attribute(customer_id="cus_1"):
            app.task(spend).delay(1)
            spend(2)
    finally:
        outlay.uninstrument("celery")

    assert [event.subject for event in costs.events] == ["cus_1", "cus_1"]


def test_too_much_attribution_does_not_stop_a_task(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The task is sent without it; that is counted, and logged once."""
    counted = "tests: InvalidEventError"

    with outlay.attribute(customer_id="cus_1", text="x" * 5000):
        assert message_headers("tests") == {}
        assert message_headers("tests") == {}

    assert outlay.stats().capture_errors[counted] == 2
    assert sum(counted in each.getMessage() for each in caplog.records) == 1
    outlay.close(0)


def test_a_task_with_an_impossible_id_runs_without_one(costs: Costs) -> None:
    """Programs may give a task an id of their own."""
    with task_scope("impossible id", None, "x" * 2000):
        assert outlay.current_operation().operation_id is None
        outlay.current_operation().add("1", event_type="cost.a")

    assert costs.total() == 1


def test_rq_is_restored() -> None:
    """The same functions as before, however often it was set up."""

    def patched() -> list[Callable[..., object]]:
        runner = next(each for each in Worker.__mro__ if "perform_job" in vars(each))
        return [vars(Job)["create"], vars(runner)["perform_job"]]

    before = patched()
    outlay.instrument("rq")
    outlay.instrument("rq")
    during = patched()
    outlay.uninstrument("rq")

    assert patched() == before
    assert before[0] is not during[0]
    assert before[1] is not during[1]
