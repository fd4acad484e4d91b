"""Extract costs from Amazon Textract: pages, by operation and features.

The observation's model is ``DetectDocumentText``, for example, or
``AnalyzeDocument:FORMS+TABLES``. Features are in alphabetical order, because each
combination has a price of its own.

A job is charged once it has run, however often its result is retrieved. Its features
and its owner are known where it was started.
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

Response = Mapping[str, Any]


def document_pages(response: Response, call: Call) -> Observation | None:
    """Read the pages of an operation, or of a job that has ended."""
    if response.get("JobStatus", _SUCCEEDED) not in _CHARGED:
        return None
    operation = call.path.rpartition("/")[2]
    features = _features(call.request)
    count = response.get("DocumentMetadata.Pages")
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
        found.add("ADAPTERS")  # trained on the user's documents, which costs more
    return "+".join(sorted(map(str, found)))


class Job(NamedTuple):
    """The facts of a job from where it was started.

    Attributes:
        request: The parameters that select its price.
        owner: The attribution that it was started with. If None, there was none.
    """

    request: Mapping[str, Any]
    owner: PropagatedContext | None


_started: Final[BoundedDict[object, Job]] = BoundedDict(8192)


def remember(params: Mapping[str, Any], response: Response) -> None:
    """Remember the job that a response started, if any."""
    job_id = response.get("JobId")
    if job_id is not None:
        known = current_attribution.get().customer_id is not None
        request = {name: params[name] for name in _PRICED_BY if name in params}
        _started[job_id] = Job(request, capture() if known else None)


def job_of(params: Mapping[str, Any]) -> Job | None:
    """Return the requested job, if this process started it."""
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
"""The operation in price lists, by the operation that retrieves a job's result."""

_READ: Final = ("JobStatus", "DocumentMetadata.Pages")
for _operation in (
    "AnalyzeDocument",
    "AnalyzeExpense",
    "AnalyzeID",
    "DetectDocumentText",
    *_JOBS,
):
    register("aws", f"POST /textract/{_operation}", Endpoint(document_pages, _READ))
