"""Textract by way of boto3: pages, once each, by what was looked for in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import outlay
from outlay._capture.providers.aws import LIBRARY
from tests.capture.providers.amazon import REGION, Answer, Service
from tests.docs.blocks import blocks
from tests.support.recorded import Recorded

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.capture.providers.conftest import Capture

WORDS: Final = "to be or not to be"
DOCUMENT: Final = {"S3Object": {"Bucket": "bucket", "Name": WORDS}}
BLOCKS: Final = [{"BlockType": "LINE", "Text": WORDS}]


def read(pages: int = 3, request_id: str = "req-1", **more: Any) -> Answer:
    """Return an answer that has pages."""
    body = {"DocumentMetadata": {"Pages": pages}, "Blocks": BLOCKS, **more}
    return Answer(body, request_id=request_id)


def started(job: str = "job-1") -> Answer:
    """Return the answer of a job that has begun."""
    return Answer({"JobId": job})


def textract(*answers: Answer) -> Any:
    """Return a client that gets these answers."""
    return Service(*answers).client("textract")


def observed(model: str, operation_id: str = "req-1", pages: int = 3) -> object:
    """Return what pages are seen as."""
    return outlay.extractors.Observation(
        provider="aws",
        event_type="cost.documents.ocr",
        operation_id=operation_id,
        model=model,
        region=REGION,
        usage={"page": pages},
        is_lookup=operation_id.startswith("job"),
    )


def analyze(*features: str, **more: Any) -> Callable[[Any], object]:
    """Return what looks for features."""
    return lambda client: client.analyze_document(
        Document=DOCUMENT, FeatureTypes=list(features), **more
    )


ADAPTERS: Final = {"Adapters": [{"AdapterId": "adapter-0001", "Version": "1"}]}


@pytest.mark.parametrize(
    ("ask", "model"),
    [
        pytest.param(
            lambda client: client.detect_document_text(Document=DOCUMENT),
            "DetectDocumentText",
            id="text",
        ),
        pytest.param(analyze("FORMS"), "AnalyzeDocument:FORMS", id="forms"),
        pytest.param(
            analyze("TABLES", "FORMS"), "AnalyzeDocument:FORMS+TABLES", id="two"
        ),
        pytest.param(
            analyze(
                "QUERIES",
                AdaptersConfig=ADAPTERS,
                QueriesConfig={"Queries": [{"Text": WORDS}]},
            ),
            "AnalyzeDocument:ADAPTERS+QUERIES",
            id="adapters",
        ),
        pytest.param(
            lambda client: client.analyze_expense(Document=DOCUMENT),
            "AnalyzeExpense",
            id="expense",
        ),
        pytest.param(
            lambda client: client.analyze_id(DocumentPages=[DOCUMENT]),
            "AnalyzeID",
            id="id",
        ),
    ],
)
def test_pages_are_observed_by_what_was_looked_for(
    ask: Callable[[Any], object], model: str, capture: Capture
) -> None:
    """Operation and features decide the price; nothing that was read is kept."""
    client = textract(read())
    with capture(LIBRARY, client) as seen:
        ask(client)

    assert seen == [observed(model)]
    assert WORDS not in repr(seen)


def test_an_answer_without_pages_is_incomplete(capture: Capture) -> None:
    """Visible, and not zero."""
    client = textract(Answer({"Blocks": BLOCKS}))
    with capture(LIBRARY, client) as seen:
        client.detect_document_text(Document=DOCUMENT)

    assert [(each.usage, each.is_complete) for each in seen] == [({}, False)]


JOBS: Final = [
    ("document_text_detection", {}, "DetectDocumentText"),
    (
        "document_analysis",
        {"FeatureTypes": ["TABLES", "FORMS"]},
        "AnalyzeDocument:FORMS+TABLES",
    ),
    ("expense_analysis", {}, "AnalyzeExpense"),
    ("lending_analysis", {}, "AnalyzeLending"),
]


@pytest.mark.parametrize(("name", "sent", "model"), JOBS, ids=[job[0] for job in JOBS])
def test_a_job_is_observed_when_it_has_run(
    name: str, sent: Any, model: str, capture: Capture
) -> None:
    """With the features that it was started with."""
    client = textract(started(), read(JobStatus="SUCCEEDED"))
    with capture(LIBRARY, client) as seen:
        getattr(client, f"start_{name}")(DocumentLocation=DOCUMENT, **sent)
        assert seen == []
        getattr(client, f"get_{name}")(JobId="job-1")

    assert seen == [observed(model, "job-1")]


@pytest.mark.parametrize(
    ("status", "count"),
    [("IN_PROGRESS", 0), ("FAILED", 0), ("SUCCEEDED", 1), ("PARTIAL_SUCCESS", 1)],
)
def test_only_a_job_that_has_run_costs(
    status: str, count: int, capture: Capture
) -> None:
    """However often it is asked for before."""
    client = textract(read(JobStatus=status))
    with capture(LIBRARY, client) as seen:
        client.get_document_text_detection(JobId="job-2")

    assert len(seen) == count


def test_a_job_of_another_process_is_observed_without_its_features(
    capture: Capture,
) -> None:
    """Which its answers do not tell."""
    client = textract(read(JobStatus="SUCCEEDED"))
    with capture(LIBRARY, client) as seen:
        client.get_document_analysis(JobId="job-elsewhere")

    assert seen == [observed("AnalyzeDocument", "job-elsewhere")]


DOCS: Final = Path(__file__).parents[3] / "docs" / "how-to" / "amazon.md"


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Return the price book that the docs show."""
    [shown] = [block for block in blocks(DOCS) if "DetectDocumentText" in block.text]
    path = tmp_path / "prices.toml"
    path.write_text(shown.text)
    return path


def test_a_job_belongs_to_whoever_fetches_it_first(book: Path) -> None:
    """Where another process started it, and this one does not know the customer."""
    client = textract(*[read(JobStatus="SUCCEEDED")] * 2)
    with Recorded(price_book=book) as tracked:
        outlay.instrument(client, client=tracked.client)
        try:
            for customer in ("cus_7", "cus_8"):
                with outlay.attribute(customer_id=customer):
                    client.get_document_text_detection(JobId="job-4")
        finally:
            outlay.uninstrument(client)

        assert tracked.only().subject == "cus_7"


def test_a_job_is_counted_once_for_whoever_started_it(book: Path) -> None:
    """However often its result is fetched, page by page, and on whose behalf."""
    pages = [read(JobStatus="SUCCEEDED", NextToken="n")] * 3
    client = textract(started("job-3"), *pages)
    with Recorded(price_book=book) as tracked:
        outlay.instrument(client, client=tracked.client)
        try:
            with outlay.attribute(customer_id="cus_7"):
                client.start_document_analysis(
                    DocumentLocation=DOCUMENT, FeatureTypes=["FORMS", "TABLES"]
                )
            client.get_document_analysis(JobId="job-3")
            client.get_document_analysis(JobId="job-3", NextToken="n")
            with outlay.attribute(customer_id="cus_8"):
                client.get_document_analysis(JobId="job-3", NextToken="n")
        finally:
            outlay.uninstrument(client)

        event = tracked.only()
    assert (event.subject, event.data["operationId"]) == ("cus_7", "job-3")
    assert str(event.data["amount"]) == "0.195"
