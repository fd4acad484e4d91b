"""Track a cost a second, as a service would. The agent ships it."""

import signal
import threading
import uuid

import outlay

stopped = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopped.set())

while not stopped.wait(1):
    outlay.track_cost(
        "cost.documents.ocr",
        "0.0015",
        customer_id="cus_ada",
        operation_id=str(uuid.uuid4()),
        provider="textract",
        quantity=1,
        unit="page",
    )
