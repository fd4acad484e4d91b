"""Render templates, and read the static files."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from jinja2 import DictLoader, Environment, StrictUndefined

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKAGE: Final = files(__package__)
_MEDIA_TYPES: Final = {
    "dashboard.css": "text/css; charset=utf-8",
    "dashboard.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


class Asset(NamedTuple):
    """One static file."""

    media_type: str
    body: bytes


@cache
def assets() -> Mapping[str, Asset]:
    """Return the static files by name."""
    folder = _PACKAGE / "static"
    return {
        name: Asset(media_type, (folder / name).read_bytes())
        for name, media_type in _MEDIA_TYPES.items()
    }


@cache
def assets_version() -> str:
    """Return a text that changes with the static files, for their addresses."""
    digest = sha256()
    for _, asset in sorted(assets().items()):
        digest.update(asset.body)
    return digest.hexdigest()[:12]


@cache
def _environment() -> Environment:
    templates = {
        item.name: item.read_text(encoding="utf-8")
        for item in (_PACKAGE / "templates").iterdir()
        if item.name.endswith(".html")
    }
    environment = Environment(
        loader=DictLoader(templates),
        autoescape=True,  # of every template; no name decides
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["assets"] = assets_version()
    return environment


def render(template: str, context: Mapping[str, Any]) -> bytes:
    """Return a page as UTF-8."""
    return _environment().get_template(template).render(context).encode()
