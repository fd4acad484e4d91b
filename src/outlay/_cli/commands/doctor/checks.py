"""The checks of ``outlay doctor``. Each yields findings, and none stops the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from outlay._cli.commands.doctor.findings import Finding, Level
from outlay._cli.commands.doctor.folder_checks import check_descriptors, check_folder
from outlay._cli.commands.doctor.journal_checks import check_journal
from outlay._cli.commands.doctor.server_checks import check_server
from outlay._model.settings import PREFIX, SERVER_PREFIX, Settings
from outlay.errors import (
    ConfigError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CHECKS: Final = {
    "folder": check_folder,
    "descriptors": check_descriptors,
    "journal": check_journal,
    "server": check_server,
}


def check_all(
    given: Mapping[str, Any], *, variables: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield the findings of all checks.

    Args:
        given: Settings that were passed as arguments. None means not given.
        variables: The environment, to find misspelled variables.
    """
    yield from _unknown_variables(variables)
    try:
        settings = Settings.resolve(given)
    except ConfigError as error:
        yield Finding(Level.FAIL, "settings", str(error))
        return
    yield from _settings(settings, given)
    for name, check in _CHECKS.items():
        try:
            yield from check(settings)
        except OSError as error:
            yield Finding(Level.FAIL, name, f"cannot be read: {error}")
        except Exception as error:  # noqa: BLE001 - a fault of one check hides no other
            text = f"cannot be checked: {type(error).__name__}: {error}"
            yield Finding(Level.FAIL, name, text)


_ALWAYS_SHOWN: Final = frozenset({"base_url", "source"})


def _unknown_variables(variables: Mapping[str, str]) -> Iterator[Finding]:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(variables):
        ours = name.startswith(PREFIX) and not name.startswith(SERVER_PREFIX)
        if ours and name not in known:
            text = f"{name} is no setting and has no effect; see docs/settings.md"
            yield Finding(Level.WARN, "settings", text)


def _settings(settings: Settings, given: Mapping[str, Any]) -> Iterator[Finding]:
    for name in Settings.model_fields:
        if given.get(name) is not None:
            origin = "argument"
        elif name in settings.model_fields_set:
            origin = PREFIX + name.upper()
        elif name in _ALWAYS_SHOWN:
            origin = "default"
        else:
            continue
        # A SecretStr prints asterisks.
        text = f"{name} = {getattr(settings, name)} ({origin})"
        yield Finding(Level.OK, "settings", text)
    if settings.api_key is None:
        text = "no api_key: right for --dev; else set OUTLAY_API_KEY"
        yield Finding(Level.WARN, "settings", text)
    if settings.durability == "memory":
        text = "durability = memory: pending events are lost with the process"
        yield Finding(Level.WARN, "settings", text)
