"""Patch the functions of provider libraries, and undo that.

A `Library` provides the patches of one package. Its `InstrumentedClients` know which
clients are captured, and how. A patched function asks them. For a client that is not
instrumented it only calls the original, which costs a look-up.
"""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from outlay._capture.context import attribution
from outlay._capture.extraction.registry import has_unique_ids
from outlay._capture.guard import guarded
from outlay._capture.instrumentation.import_hook import cancel, when_imported
from outlay._capture.observation import Observation
from outlay._capture.operations.ids import RepeatingIds
from outlay._capture.operations.state import current_derived_ids

if TYPE_CHECKING:
    from types import ModuleType

    from outlay._capture.extraction.registry import Call, Endpoint


class CaptureOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of captured calls.

    Attributes:
        record: Tracks an observation.
        event_type: The event type. Defaults to the extractor's choice.
        provider: The provider that charges. Defaults to the one of the client's address
            or class.
        models: The names of deployments and aliases in price lists.
        include_usage: Whether to request usage in streams that come without it.
        customer_of: A function that returns the customer of a request of a batch, by
            its id.
    """

    record: Callable[[Observation], object]
    event_type: str | None = None
    provider: str | None = None
    models: Mapping[str, str] = {}
    include_usage: bool = False
    customer_of: Callable[[str], str | None] | None = None

    def finish_call(
        self,
        endpoint: Endpoint,
        call: Call,
        response: Mapping[str, Any],
        *,
        complete: bool = True,
    ) -> None:
        """Record what the response to a call says about its cost.

        Args:
            endpoint: The endpoint that was called.
            call: The call.
            response: The fields of the response that the endpoint's extractor reads.
            complete: Whether the response was read to its end.
        """
        extracted = endpoint.extract(response, call)
        if extracted is None:
            return
        if isinstance(extracted, Observation):
            extracted = (extracted,)
        scope = self.customer_of and guarded(
            call.provider, self._attribution_of, response
        )
        if scope is None:
            self._record(extracted, endpoint, call, complete=complete)
        else:
            with scope:
                self._record(extracted, endpoint, call, complete=complete)

    def _record(
        self,
        extracted: Iterable[Observation],
        endpoint: Endpoint,
        call: Call,
        *,
        complete: bool,
    ) -> None:
        repeats = not has_unique_ids(call.provider)
        for each in extracted:
            observation = self._with_options(each, call, complete=complete)
            if repeats:
                observation = _repeating_ids.replace(
                    observation, endpoint.extract, current_derived_ids()
                )
            guarded(call.provider, self.record, observation)

    def _attribution_of(
        self, response: Mapping[str, Any]
    ) -> attribution.AttributionScope | None:
        request_id = response.get("custom_id") or response.get("recordId")
        if self.customer_of is None or request_id is None:
            return None
        return attribution.attribute(customer_id=self.customer_of(request_id))

    def _with_options(
        self, observation: Observation, call: Call, *, complete: bool
    ) -> Observation:
        changes: dict[str, Any] = {}
        if self.event_type is not None:
            changes["event_type"] = self.event_type
        if not complete:
            changes["is_complete"] = False
        reported = observation.model if isinstance(observation.model, str) else None
        model = self.models.get(call.model or "") or self.models.get(
            reported or "", reported
        )
        if model != observation.model:
            changes["model"] = model
        if not changes:
            return observation
        return msgspec.structs.replace(observation, **changes)


_repeating_ids: Final = RepeatingIds()


class Patch(NamedTuple):
    """A function of a library that will be replaced by a wrapper.

    Attributes:
        owner: The class or module that holds the function.
        name: The name of the function there.
        wrap: Makes the wrapper from the original.
    """

    owner: Any
    name: str
    wrap: Callable[[Callable[..., Any]], Callable[..., Any]]


class InstrumentedClients:
    """The clients of one library that are captured, with their options.

    The clients are held weakly. Thread safety: any thread.
    """

    def __init__(self) -> None:
        self.default_options: CaptureOptions | None = None
        # By identity: in some libraries, clients with equal settings are equal.
        self._clients: dict[int, tuple[weakref.ref[Any], CaptureOptions]] = {}

    def options_for(self, client: object) -> CaptureOptions | None:
        """Return the options of ``client``, or None if it is not captured."""
        return self._client_options(client) or self.default_options

    def _client_options(self, client: object) -> CaptureOptions | None:
        known, options = self._clients.get(id(client), (None, None))
        return options if known is not None and known() is client else None

    def add(self, client: object, options: CaptureOptions) -> None:
        """Capture the calls of one client."""
        name = id(client)
        gone = weakref.ref(client, lambda _: self._clients.pop(name, None))
        self._clients[name] = (gone, options)

    def discard(self, client: object) -> None:
        """Stop capturing the calls of one client."""
        self._clients.pop(id(client), None)

    def inherit(self, client: object, parent: object) -> None:
        """Capture ``client``, a copy of ``parent``, with the same options."""
        options = self._client_options(parent)
        if options is not None:
            self.add(client, options)

    def clear(self) -> None:
        """Stop capturing."""
        self.default_options = None
        self._clients.clear()

    def is_empty(self) -> bool:
        """Return whether no client is captured."""
        return self.default_options is None and not self._clients


PatchProvider = Callable[["ModuleType", InstrumentedClients], Iterable[Patch]]
"""Returns the patches of an imported module, given it and the captured clients."""

NO_EXTRA_MODULES: Final[Mapping[str, PatchProvider]] = MappingProxyType({})


class Library:
    """One provider's package, and its patches.

    Thread safety: any thread.
    """

    def __init__(
        self,
        name: str,
        patches: PatchProvider,
        *,
        module: str | None = None,
        clients_only: bool = False,
        patched_objects: Callable[[Any], Iterable[object]] = lambda client: (client,),
        extra_modules: Mapping[str, PatchProvider] = NO_EXTRA_MODULES,
    ) -> None:
        """Describe a library.

        Args:
            name: The name that users give, as in ``outlay.instrument("openai")``.
            patches: A function that returns the patches of the imported module.
            module: The module that is imported. Defaults to the name.
            clients_only: Whether only single clients can be captured, and
                `instrument()` skips the library. Defaults to False.
            patched_objects: A function that returns the objects that the patched
                functions get for a client. Defaults to the client itself.
            extra_modules: More modules of the package that have patches, and are not
                imported together with it.
        """
        self.name = name
        self.module = module or name
        self.clients_only = clients_only
        self.scope = InstrumentedClients()
        self._patches = {self.module: patches, **extra_modules}
        self._patched_objects = patched_objects
        # Re-entrant: a finaliser may make a call, and so get here.
        self._lock = threading.RLock()
        # Patches with original and wrapper, by module; guarded by _lock.
        self._applied: dict[str, list[tuple[Patch, Any, Any]]] = {}

    def is_client(self, client: object) -> bool:
        """Return whether ``client`` is an object of this library, or of a subclass."""
        package = self.module + "."
        return any(
            (kind.__module__ + ".").startswith(package) for kind in type(client).__mro__
        )

    def instrument_all(self, options: CaptureOptions) -> None:
        """Capture every client, earlier and later, once the library is imported."""
        self.scope.default_options = options
        self._apply_patches()

    def instrument_client(self, client: object, options: CaptureOptions) -> None:
        """Capture one client, and the copies that are made of it later."""
        for each in self._patched_objects(client):
            self.scope.add(each, options)
        self._apply_patches()

    def uninstrument(self, client: object | None = None) -> None:
        """Stop capturing. After the last client, the patches are removed.

        Args:
            client: The client. If None, all of them.
        """
        if client is None:
            self.scope.clear()
        else:
            for each in self._patched_objects(client):
                self.scope.discard(each)
        if self.scope.is_empty():
            self._remove_patches()

    def _apply_patches(self) -> None:
        for module in self._patches:
            when_imported(module, functools.partial(self._patch_module, module))

    def _patch_module(self, module: str) -> None:
        with self._lock:
            if module in self._applied:
                return
            applied = self._applied[module] = []
            for patch in tuple(self._patches[module](sys.modules[module], self.scope)):
                original = vars(patch.owner).get(patch.name, _INHERITED)
                wrapper = patch.wrap(getattr(patch.owner, patch.name))
                setattr(patch.owner, patch.name, wrapper)
                applied.append((patch, original, vars(patch.owner)[patch.name]))

    def _remove_patches(self) -> None:
        for module in self._patches:
            cancel(module)
        with self._lock:
            applied = [each for part in self._applied.values() for each in part]
            self._applied.clear()
            for patch, original, wrapper in reversed(applied):
                if vars(patch.owner).get(patch.name) is not wrapper:
                    # Another package wrapped the wrapper. It stays, and calls on.
                    continue
                if original is _INHERITED:
                    delattr(patch.owner, patch.name)
                else:
                    setattr(patch.owner, patch.name, original)


_INHERITED: Final = object()


def patch_copy_method(
    scope: InstrumentedClients,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the wrapper of a method that copies a client, and capture the copy."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def copy(client: Any, *args: Any, **kwargs: Any) -> Any:
            copied = original(client, *args, **kwargs)
            guarded("copy", scope.inherit, copied, client)
            return copied

        return copy

    return wrap
