"""Run an action when a module has been imported by the program.

`instrument()` captures libraries that the program imports later. It must not import
libraries that the program never uses.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from importlib.abc import Loader, MetaPathFinder
from typing import TYPE_CHECKING, Final

from outlay._capture.guard import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_lock: Final = threading.RLock()
_pending_actions: Final[dict[str, Callable[[], object]]] = {}  # guarded by _lock


def when_imported(module: str, action: Callable[[], object]) -> None:
    """Run ``action`` now if the module is imported, or else after its import.

    Args:
        module: The full name of the module.
        action: The function to run, guarded, on the importing thread. Only the latest
            action of each module runs.
    """
    _wait_for_import(module)
    with _lock:
        is_imported = module in sys.modules
        if not is_imported:
            _pending_actions[module] = action
            if _finder not in sys.meta_path:
                sys.meta_path.insert(0, _finder)
    if is_imported:
        action()


def cancel(module: str) -> None:
    """Forget the action of a module.

    The finder stays in ``sys.meta_path``. If it were removed, an import of another
    thread that goes through this list would skip a finder, and fail.
    """
    with _lock:
        _pending_actions.pop(module, None)


def _wait_for_import(module: str) -> None:
    """Wait until no other thread is importing a module: half of it has no patches."""
    spec = getattr(sys.modules.get(module), "__spec__", None)
    if getattr(spec, "_initializing", False):
        with contextlib.suppress(ImportError):  # the other thread's import failed
            importlib.import_module(module)


def is_installed(module: str) -> bool:
    """Return whether a module could be imported, without importing anything.

    ``importlib.util.find_spec`` would import the parents. It also misses packages that
    share a parent, such as ``google``.

    Args:
        module: The full name of the module.
    """
    path: Sequence[str] | None = None
    for depth in range(1, module.count(".") + 2):
        name = ".".join(module.split(".")[:depth])
        if name in sys.modules:
            path = getattr(sys.modules[name], "__path__", ())
            continue
        spec = _find(name, path)
        if spec is None:
            return False
        path = spec.submodule_search_locations or ()
    return True


def _find(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path)
        if spec is not None:
            return spec
    return None


class _ImportHook(MetaPathFinder):
    """Lets the other finders find a module, and wraps the loader that they name."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname not in _pending_actions:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find and find(fullname, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = _NotifyingLoader(spec.loader)
                return spec
        return None


class _NotifyingLoader(Loader):
    """Loads with the real loader, then runs the action. The module shows no trace."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        name = module.__name__
        with _lock:
            action = _pending_actions.get(name)
        cancel(name)
        if action is not None:
            guarded(name, action)


_finder: Final = _ImportHook()
