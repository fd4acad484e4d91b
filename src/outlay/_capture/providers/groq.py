"""The groq package: endpoints of OpenAI's shape, read by `providers.openai`."""

from __future__ import annotations

from typing import Final

from outlay._capture.providers import openai as _openai  # noqa: F401 - registers them
from outlay._capture.providers.generators.stainless import StainlessLibrary, library

LIBRARY: Final = library(StainlessLibrary("groq", provider="groq"))
