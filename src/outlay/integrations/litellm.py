"""Track the costs of a LiteLLM proxy: `handler`.

    litellm_settings:
      callbacks: outlay.integrations.litellm.handler

The customer is in the metadata of the virtual key or of its team, under the name
``outlay_customer_id``. Programs that use LiteLLM as a library write
``outlay.instrument("litellm")`` instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import litellm as _litellm  # noqa: F401 - its callbacks are extended
from litellm.integrations import custom_logger as _custom_logger  # noqa: F401 - likewise

from outlay._capture.instrumentation.instrument import instrument
from outlay._capture.providers.litellm import LIBRARY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ("handler", "make_handler")

_AUTHENTICATED: Final = "user_api_key_"
"""The prefix of the fields that the proxy fills in after it has checked a key. It
removes such fields from what clients send. Source: ``litellm_pre_call_utils.py`` of
LiteLLM 1.110.2."""

_CUSTOMER: Final = "outlay_customer_id"


def make_handler(
    *, customer: Callable[[Mapping[str, Any]], str | None] | None = None
) -> Any:  # noqa: ANN401 - a class that LiteLLM defines
    """Return a callback for a LiteLLM proxy.

    Each call is tracked for the customer that the proxy has authenticated. Other fields
    of the request's metadata are not read, because any client can send them. A call is
    counted once, also if `outlay.instrument` captures the clients that LiteLLM uses.

    A process has one such callback. The latest ``customer`` applies.

    Args:
        customer: A function that returns the customer. It gets the fields that the
            proxy filled in, such as ``user_api_key_team_id``. Of these,
            ``user_api_key_end_user_id`` is what the client sent as its ``user``.
            Defaults to ``outlay_customer_id`` in the metadata of the key, or else of
            its team.

    Example:
        >>> handler = make_handler(customer=lambda key: key["user_api_key_team_id"])
    """
    instrument("litellm")
    customer_of = customer or _customer_of_key
    return LIBRARY.proxy_callback(
        lambda kwargs: customer_of(_authenticated_fields(kwargs))
    )


def _authenticated_fields(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    parameters = kwargs.get("litellm_params") or {}
    return {
        name: value
        # The proxy uses one or the other, by the kind of request.
        for source in ("litellm_metadata", "metadata")
        for name, value in (parameters.get(source) or {}).items()
        if name.startswith(_AUTHENTICATED)
    }


def _customer_of_key(fields: Mapping[str, Any]) -> str | None:
    for owner in ("user_api_key_metadata", "user_api_key_team_metadata"):
        found = (fields.get(owner) or {}).get(_CUSTOMER)
        if isinstance(found, str):
            return found
    return None


handler: Final = make_handler()
"""The callback with the defaults of `make_handler`, for ``callbacks:`` in the proxy's
configuration."""
