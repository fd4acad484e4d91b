"""Clients of httpx2, which are hooked like those of httpx."""

from __future__ import annotations

from typing import Final

from outlay._capture.instrumentation.library import Library
from outlay._capture.providers.httpx import seams

LIBRARY: Final = Library("httpx2", seams, by_client_only=True)
