"""Identity: which operation a captured cost belongs to, and so what its key is.

The answer of a provider mostly has an id of its own. Where it has none, the operation
that the call was made in has one. There the call is named by what it was and what it
consumed, and by how many of the same came before: so a re-run that makes the same calls
gives them the same names, in whatever order they end. Those that could change places
are alike, and cost the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from outlay._capture.operations.ids import identity_fields
from outlay._capture.operations.state import current_operation_state
from outlay._model.events import MAX_OPERATION_ID_CHARS, validate_text
from outlay.errors import InvalidEventError

if TYPE_CHECKING:
    from outlay._capture.observation import Observation


def resolve_operation_id(observation: Observation) -> str | None:
    """Return the id of the operation that was observed.

    The first of these that there is:

    1. what the user said, or the id that the provider gave to its answer: both are the
       observation's ``operation_id``, where the user's word goes before;
    2. the id of the HTTP request: each attempt that was charged has another;
    3. the id of the enclosing operation, and the call's place in it;
    4. None: the event's key will be random, which is counted, and said once.

    Not pure: asking for the third takes the place.
    """
    for told in (observation.operation_id, observation.request_id):
        usable = _valid_or_none(told)
        if usable is not None:
            return usable
    around = current_operation_state.get()
    if around is None or around.derived_ids is None:
        return None
    return around.derived_ids.next_id(*identity_fields(observation))


def with_operation_id(observation: Observation) -> Observation:
    """Return ``observation`` with the id of its operation, if there is any."""
    name = resolve_operation_id(observation)
    if name == observation.operation_id:
        return observation
    return msgspec.structs.replace(observation, operation_id=name)


def operation_id_text(operation_id: object) -> str:
    """Return an operation id as the text that a key is made of.

    Raises:
        InvalidEventError: it is none.
    """
    if isinstance(operation_id, UUID) or type(operation_id) is int:
        operation_id = str(operation_id)
    return validate_text("operation_id", operation_id, max_chars=MAX_OPERATION_ID_CHARS)


def _valid_or_none(told: object) -> str | None:
    try:
        return operation_id_text(told)
    except InvalidEventError:  # a provider's, or an extractor's, mistake
        return None
