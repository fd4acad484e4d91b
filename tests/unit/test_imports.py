"""Modules import each other in one direction. Layers are checked by `make lint`."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest


def test_no_module_imports_itself_through_others() -> None:
    """A cycle imports a half-made module, or hides it in a function.

    Imports inside functions count, and so do those for types alone. They never run,
    but a reader follows them in a circle.
    """
    graph = grimp.build_graph("outlay", cache_dir=None)
    imports = {
        module: graph.find_modules_directly_imported_by(module)
        for module in graph.modules
    }
    assert "outlay._journal.frames" in imports["outlay._journal.segments"]

    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))
