"""The engine: hooks provider libraries, and unhooks them again.

A `Library` names the seams of one provider's package. Its `Scope` knows which of its
clients are captured, and how. A seam's wrapper asks the scope; for a client that
nobody instrumented it calls on, and costs a look-up.
"""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from outlay._capture.context import attribution
from outlay._capture.guard import guarded
from outlay._capture.instrumentation.import_hook import cancel, when_imported
from outlay._capture.observation import Observation

if TYPE_CHECKING:
    from types import ModuleType

    from outlay._capture.extraction.registry import Call, Endpoint


class CaptureOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How calls are captured.

    Attributes:
        record: tracks what was observed.
        event_type: in place of the one that the extractor chose.
        provider: who charges; None: what the client's address or class tells.
        models: what the provider's deployments and aliases are called in price lists.
        include_usage: whether to ask for usage in streams that come without it.
        customer_of: whose a batch's request is, by the id that the user gave it.
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
        answer: Mapping[str, Any],
        *,
        complete: bool = True,
    ) -> None:
        """Record what the answer to a call says that it cost.

        Args:
            endpoint: that was called.
            call: what is known of it.
            answer: its members, as far as the endpoint's extractor reads them.
            complete: whether the answer was read to its end.
        """
        extracted = endpoint.extract(answer, call)
        if extracted is None:
            return
        if isinstance(extracted, Observation):
            extracted = (extracted,)
        request = answer.get("custom_id") or answer.get("recordId")
        scope = guarded(call.provider, self._scope_of, request)
        with scope or nullcontext():
            for observation in extracted:
                named = self._named(observation, call, complete)
                guarded(call.provider, self.record, named)

    def _scope_of(self, request: str | None) -> attribution.AttributionScope | None:
        if self.customer_of is None or request is None:
            return None
        return attribution.attribute(customer_id=self.customer_of(request))

    def _named(self, observed: Observation, call: Call, complete: bool) -> Observation:  # noqa: FBT001 - private
        changes: dict[str, Any] = {}
        if self.event_type is not None:
            changes["event_type"] = self.event_type
        if not complete:
            changes["is_complete"] = False
        told = observed.model if isinstance(observed.model, str) else None
        model = self.models.get(call.model or "") or self.models.get(told or "", told)
        if model != observed.model:
            changes["model"] = model
        if not changes:
            return observed
        return msgspec.structs.replace(observed, **changes)


class Patch(NamedTuple):
    """A function of a library to be wrapped.

    Attributes:
        owner: the class or module that holds it.
        name: its name there.
        wrap: makes the wrapper of the original.
    """

    owner: Any
    name: str
    wrap: Callable[[Callable[..., Any]], Callable[..., Any]]


class InstrumentedClients:
    """Which clients of one library are captured, and how. Holds them weakly.

    Thread safety: any thread.
    """

    def __init__(self) -> None:
        self.default_options: CaptureOptions | None = None
        # By identity: clients of some libraries are equal if their settings are.
        self._clients: dict[int, tuple[weakref.ref[Any], CaptureOptions]] = {}

    def options_for(self, client: object) -> CaptureOptions | None:
        """Return how calls of ``client`` are captured, or None: they are not."""
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
        """Capture the calls of one client no longer."""
        self._clients.pop(id(client), None)

    def inherit(self, client: object, parent: object) -> None:
        """Capture a copy of a client as the client itself."""
        options = self._client_options(parent)
        if options is not None:
            self.add(client, options)

    def clear(self) -> None:
        """Capture nothing."""
        self.default_options = None
        self._clients.clear()

    def is_empty(self) -> bool:
        """Return whether nothing is captured."""
        return self.default_options is None and not self._clients


PatchProvider = Callable[["ModuleType", InstrumentedClients], Iterable[Patch]]
"""Tells where to hook, given an imported module and the scope."""

NO_EXTRA_MODULES: Final[Mapping[str, PatchProvider]] = MappingProxyType({})


class Library:
    """One provider's package, and where it is hooked.

    Thread safety: any thread.
    """

    def __init__(
        self,
        name: str,
        seams: PatchProvider,
        *,
        module: str | None = None,
        by_client_only: bool = False,
        inside: Callable[[Any], Iterable[object]] = lambda client: (client,),
        also: Mapping[str, PatchProvider] = NO_EXTRA_MODULES,
    ) -> None:
        """Describe a library.

        Args:
            name: what users call it, as in ``outlay.instrument("openai")``.
            seams: returns where to hook, given the imported module and the scope.
            module: what is imported; None: the name.
            by_client_only: whether `instrument()` leaves it alone, and only single
                clients can be captured.
            inside: returns what the seams see of a client, and ask the scope about,
                where that is not the client itself.
            also: more modules of the package that have seams, and are not imported
                with it.
        """
        self.name = name
        self.module = module or name
        self.clients_only = by_client_only
        self.scope = InstrumentedClients()
        self._seams = {self.module: seams, **also}
        self._inside = inside
        self._lock = threading.RLock()  # a finaliser may call, and so look in here
        # By module; guarded by _lock.
        self._hooked: dict[str, list[tuple[Patch, Any, Any]]] = {}

    def is_client(self, client: object) -> bool:
        """Return whether ``client`` is an object of this library, or of a subclass."""
        inside = self.module + "."
        return any(
            (kind.__module__ + ".").startswith(inside) for kind in type(client).__mro__
        )

    def instrument_all(self, options: CaptureOptions) -> None:
        """Capture every client, of now and later, once the library is imported."""
        self.scope.default_options = options
        self._apply_patches()

    def instrument_client(self, client: object, options: CaptureOptions) -> None:
        """Capture one client, and the copies that are made of it from now on."""
        for part in self._inside(client):
            self.scope.add(part, options)
        self._apply_patches()

    def uninstrument(self, client: object | None = None) -> None:
        """Capture one client no longer, or none at all; leave no trace after the last.

        Args:
            client: the client; None: all of them.
        """
        if client is None:
            self.scope.clear()
        else:
            for part in self._inside(client):
                self.scope.discard(part)
        if self.scope.is_empty():
            self._remove_patches()

    def _apply_patches(self) -> None:
        for module in self._seams:
            when_imported(module, functools.partial(self._hook_module, module))

    def _hook_module(self, module: str) -> None:
        with self._lock:
            if module in self._hooked:
                return
            hooked = self._hooked[module] = []
            for seam in tuple(self._seams[module](sys.modules[module], self.scope)):
                original = vars(seam.owner).get(seam.name, _INHERITED)
                wrapper = seam.wrap(getattr(seam.owner, seam.name))
                setattr(seam.owner, seam.name, wrapper)
                hooked.append((seam, original, vars(seam.owner)[seam.name]))

    def _remove_patches(self) -> None:
        for module in self._seams:
            cancel(module)
        with self._lock:
            hooked = [each for part in self._hooked.values() for each in part]
            self._hooked.clear()
            for seam, original, ours in reversed(hooked):
                if vars(seam.owner).get(seam.name) is not ours:
                    # Somebody wrapped the wrapper: it stays, and calls on.
                    continue
                if original is _INHERITED:
                    delattr(seam.owner, seam.name)
                else:
                    setattr(seam.owner, seam.name, original)


_INHERITED: Final = object()


def patch_copy_method(
    scope: InstrumentedClients,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the wrap of a method that copies a client: the copy is captured alike."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def copy(client: Any, *args: Any, **kwargs: Any) -> Any:
            made = original(client, *args, **kwargs)
            guarded("copy", scope.inherit, made, client)
            return made

        return copy

    return wrap
