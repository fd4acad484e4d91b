"""Connect outlay with frameworks: one module for each, one line for the user.

    app.add_middleware(outlay.integrations.fastapi.OutlayMiddleware, customer=...)

A module is imported when it is first named. Each needs the framework that it is for,
and nothing else. See docs/integrations/.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    from outlay.integrations import (
        arq,
        asgi,
        aws_lambda,
        celery,
        cloud_run,
        django,
        dramatiq,
        fastapi,
        flask,
        langchain,
        litellm,
        litestar,
        llama_index,
        mcp,
        openai_agents,
        pydantic_ai,
        rq,
        starlette,
        wsgi,
    )

__all__ = (
    "arq",
    "asgi",
    "aws_lambda",
    "celery",
    "cloud_run",
    "django",
    "dramatiq",
    "fastapi",
    "flask",
    "langchain",
    "litellm",
    "litestar",
    "llama_index",
    "mcp",
    "openai_agents",
    "pydantic_ai",
    "rq",
    "starlette",
    "wsgi",
)


def __getattr__(name: str) -> ModuleType:
    """Import a framework's module when it is first named."""
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"outlay.integrations has no module {name!r}")


def __dir__() -> list[str]:
    return [*__all__]
