"""Amazon Textract: pages, whose price goes by the operation and what it looks for.

That is what the observation has as its model: ``DetectDocumentText``, or
``AnalyzeDocument:FORMS+TABLES`` with the features in alphabetical order, for together
they have a price of their own.

A job is charged when it has run; how often its result is fetched, page by page, does
not matter. What it looks for, and whose it is, is known where it was started.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from outlay._capture import event_types
from outlay._capture.extraction.registry import Call, Endpoint, register
from outlay._capture.observation import Observation
from outlay._model.attribution import current_attribution
from outlay._model.bounded import BoundedDict
from outlay._model.propagated_context import PropagatedContext, capture

Answer = Mapping[str, Any]


def document_pages(answer: Answer, call: Call) -> Observation | None:
    """Read an answer that has pages, of an operation or of a job that has ended."""
    if answer.get("JobStatus", _SUCCEEDED) not in _CHARGED:
        return None
    operation = call.path.rpartition("/")[2]
    features = _features(call.request)
    count = answer.get("DocumentMetadata.Pages")
    return Observation(
        provider=call.provider,
        event_type=event_types.OCR,
        operation_id=call.request.get("JobId") or call.request_id,
        model=":".join(filter(None, (_JOBS.get(operation, operation), features))),
        region=call.region,
        usage={} if count is None else {"page": count},
        is_complete=count is not None,
        is_lookup="JobId" in call.request,
    )


def _features(request: Mapping[str, Any]) -> str:
    found = set(request.get("FeatureTypes") or ())
    if request.get("AdaptersConfig"):
        found.add("ADAPTERS")  # trained on one's own documents, which costs more
    return "+".join(sorted(map(str, found)))


class Job(NamedTuple):
    """What is known of a job from where it was started.

    Attributes:
        request: what else decides its price.
        owner: on whose behalf it was started; None: nobody said.
    """

    request: Mapping[str, Any]
    owner: PropagatedContext | None


_started: Final[BoundedDict[object, Job]] = BoundedDict(8192)


def remember(params: Mapping[str, Any], answer: Answer) -> None:
    """Remember a job, if one was started."""
    job_id = answer.get("JobId")
    if job_id is not None:
        known = current_attribution.get().customer_id is not None
        request = {name: params[name] for name in _PRICED_BY if name in params}
        _started[job_id] = Job(request, capture() if known else None)


def job_of(params: Mapping[str, Any]) -> Job | None:
    """Return the job whose result is asked for, if this process started it."""
    return _started.get(params.get("JobId"))


_PRICED_BY: Final = ("FeatureTypes", "AdaptersConfig")
_SUCCEEDED: Final = "SUCCEEDED"
_CHARGED: Final = {_SUCCEEDED, "PARTIAL_SUCCESS"}

_JOBS: Final = {
    "GetDocumentAnalysis": "AnalyzeDocument",
    "GetDocumentTextDetection": "DetectDocumentText",
    "GetExpenseAnalysis": "AnalyzeExpense",
    "GetLendingAnalysis": "AnalyzeLending",
    "GetLendingAnalysisSummary": "AnalyzeLending",
}
"""What a job's result is fetched by, and what the price list calls the job."""

_READ: Final = ("JobStatus", "DocumentMetadata.Pages")
for _operation in (
    "AnalyzeDocument",
    "AnalyzeExpense",
    "AnalyzeID",
    "DetectDocumentText",
    *_JOBS,
):
    register("aws", f"POST /textract/{_operation}", Endpoint(document_pages, _READ))
