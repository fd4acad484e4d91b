"""Settings: from an argument, else an environment variable, else the default.

No other module of the client reads the environment. Each setting has one variable:
``OUTLAY_`` and the setting's name in capitals.
"""

from __future__ import annotations

import difflib
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self
from urllib.parse import urlsplit

import platformdirs
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from outlay._model.event_rules import validate_text
from outlay.errors import ConfigError, InvalidEventError, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

DEFAULT_BASE_URL: Final = "http://127.0.0.1:4600"
"""The address of the bundled reference server. By default nothing leaves the host."""

_logger: Final = logging.getLogger("outlay")

PREFIX: Final = "OUTLAY_"
"""The beginning of the variables of a client's settings."""

SERVER_PREFIX: Final = "OUTLAY_SERVER_"
"""The beginning of the variables of a server's settings."""

_NO_HOME: Final = Path(os.devnull, "no-home-folder")
_CURRENCY_CHARS: Final = 3

_MIN_KEY_CHARS: Final = 16
"""The shortest key. A shorter one could be guessed, and all hashed customer ids too."""


def _http_url(value: str) -> str:
    message = "pass an address such as https://api.example.com"
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError(message) from None
    if parts.username is not None or parts.password is not None:
        message = "must not hold a credential; use api_key"
        raise ValueError(message)
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ValueError(message)
    if " " in value or not value.isprintable():  # urlsplit forgives line breaks
        raise ValueError(message)
    if "?" in value or "#" in value:
        message = "must end with its path; leave query and fragment out"
        raise ValueError(message)
    return value.rstrip("/")


def is_loopback(base_url: str) -> bool:
    """Return whether the server is on this machine, which no proxy could reach."""
    return urlsplit(base_url).hostname in {"127.0.0.1", "::1", "localhost"}


def state_folder() -> Path:
    """Return the platform's folder for the state of outlay. It never raises.

    Without an absolute home folder, the path is one that cannot be made. The journal
    then moves to a private temporary folder, and warns.
    """
    if os.environ.get("HOME") == "":  # platforms would use the root folder
        return _NO_HOME
    try:
        folder = platformdirs.user_state_path("outlay", appauthor=False)
    except RuntimeError:  # the user has no entry in the password database
        return _NO_HOME
    return folder if folder.is_absolute() else _NO_HOME


def temporary_folder() -> Path:
    """Return the platform's temporary folder. A reboot may empty it."""
    return Path(tempfile.gettempdir())


def _folder(value: Path) -> Path:
    try:
        # Absolute, because a later chdir() must not move the journal.
        return value.expanduser().absolute()
    except RuntimeError:  # the user has no home folder
        message = "cannot resolve '~'; pass an absolute path"
        raise ValueError(message) from None


def _header_text(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not (text.isascii() and text.isprintable() and text.strip() == text and text):
        message = "must be printable ASCII without surrounding spaces"
        raise ValueError(message)
    return value


def _key(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value().strip()) < _MIN_KEY_CHARS:
        message = (
            f"must have {_MIN_KEY_CHARS} characters or more; "
            "make one with: openssl rand -hex 32"
        )
        raise ValueError(message)
    return value


def _text(value: str) -> str:
    try:
        return validate_text("", value)
    except InvalidEventError as error:
        raise ValueError(error.remedy) from None


def _currency(value: str) -> str:
    if not (len(value) == _CURRENCY_CHARS and value.isascii() and value.isupper()):
        message = "pass an ISO 4217 code such as USD"
        raise ValueError(message)
    return value


Text = Annotated[str, AfterValidator(_text)]
Seconds = Annotated[float, Field(gt=0, le=7 * 86400, allow_inf_nan=False)]


class EnvironmentSettings(BaseModel):
    """A frozen group of settings that can be read from the environment."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=False,
        hide_input_in_errors=True,  # it may be a credential
    )

    @classmethod
    def resolve(
        cls,
        arguments: Mapping[str, Any] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        prefix: str = PREFIX,
    ) -> Self:
        """Return the settings from ``arguments`` and the environment.

        Args:
            arguments: Settings by name. None means "not given".
            environ: The environment variables. If None, those of the process, and
                variables that no setting has are warned about once.
            prefix: The start of the variables' names. Defaults to ``OUTLAY_``.

        Raises:
            ConfigError: A setting is unknown or malformed. The message names the
                argument or variable, and what is allowed. It never shows a secret.
        """
        if environ is None:
            environ = os.environ
            _warn_of_unknown(environ, prefix, cls.model_fields)
        given = {k: v for k, v in (arguments or {}).items() if v is not None}
        variables = {
            name: variable
            for name in cls.model_fields
            if name not in given
            and environ.get(variable := prefix + name.upper(), "") != ""
        }
        read = {name: environ[variable] for name, variable in variables.items()}
        try:
            return cls.model_validate({**read, **given})
        except ValidationError as error:
            raise ConfigError(cls._error_message(error, variables)) from None

    @classmethod
    def _error_message(
        cls, error: ValidationError, variables: Mapping[str, str]
    ) -> str:
        problems = error.errors(include_url=False)
        return "; ".join(cls._explain(problem, variables) for problem in problems)

    @classmethod
    def _explain(cls, problem: ErrorDetails, variables: Mapping[str, str]) -> str:
        reason = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:  # about several settings, which the reason names
            return reason
        name = str(problem["loc"][0])
        field = cls.model_fields.get(name)
        if field is None:
            known = ", ".join(sorted(cls.model_fields))
            return f"{name}: no such setting; there are {known}"
        shown, value = variables.get(name, name), problem["input"]
        if _is_secret(field) or _may_hold_secret(value):
            return f"{shown}: {reason}"
        return f"{shown}={shorten(value)}: {reason}"


_warned: Final[set[str]] = set()


def _warn_of_unknown(
    environ: Mapping[str, str], prefix: str, fields: Iterable[str]
) -> None:
    """Warn once of each variable that looks like a setting and is none."""
    known = [prefix + name.upper() for name in fields]
    for variable in environ:
        of_server = variable.startswith(SERVER_PREFIX) and prefix != SERVER_PREFIX
        if not variable.startswith(prefix) or of_server or variable in known:
            continue
        if variable not in _warned:
            _warned.add(variable)
            nearest = difflib.get_close_matches(variable, known, n=1)
            hint = f"use {nearest[0]}" if nearest else "see docs/settings.md"
            _logger.warning(
                "the variable %s has no effect, because it is not a setting: %s",
                variable,
                hint,
            )


def _is_secret(field: FieldInfo) -> bool:
    return not field.repr or "SecretStr" in str(field.annotation)


def _may_hold_secret(value: object) -> bool:
    # An address that was refused may have a password or a token in it.
    return isinstance(value, str) and ("@" in value or "?" in value)


class Settings(EnvironmentSettings):
    """The settings of a client. Immutable. See docs/settings.md."""

    api_key: Annotated[SecretStr, AfterValidator(_header_text)] | None = None
    """The credential, sent as ``Authorization: Bearer``. If None, none is sent."""

    base_url: Annotated[str, AfterValidator(_http_url)] = DEFAULT_BASE_URL
    """The address of the service. Paths such as ``/v0/events`` are appended."""

    source: Text = "urn:outlay:app"
    """The URI of this application. It is part of every idempotency key: keep it stable
    across machines and releases."""

    namespace: Text | None = None
    """The organization to write to, if the credential may write to several."""

    journal_dir: Annotated[Path, AfterValidator(_folder)] | None = None
    """The folder of the journal. ``~`` is the home folder. A relative path starts at
    the
    working directory of the moment at which it is read. If None, the platform's state
    folder."""

    shipping: Literal["thread", "agent", "none"] = "thread"
    """``thread``: a background thread ships. ``agent``: the process ``outlay agent``
    ships while this one tracks. ``none``: events stay in the journal until this process
    has ended, and another with the same folder and destination ships them."""

    durability: Literal["process", "disk", "memory"] = "process"
    """``process``: an event survives the death of the process. ``disk``: it also
    survives
    the death of the machine, and `track_cost` waits for the disk. ``memory``: it
    survives neither, and nothing is written to disk."""

    batching: Literal["auto", "never", "always"] = "auto"
    """``auto``: batches after the server has advertised them. ``always``: from the
    first
    request. ``never``: one event a request."""

    metrics: bool = True
    """Whether counts are reported to OpenTelemetry. See docs/reference/metrics.md."""

    compression: Literal["auto", "never", "always"] = "auto"
    """``auto``: large bodies, if the server has said that it accepts them and is not on
    this machine. ``always``: large bodies, from the first request. ``never``: none."""

    allow_credits: bool = False
    """Whether negative amounts are allowed."""

    currency: Annotated[str, AfterValidator(_currency)] = "USD"
    """The currency of the cost metrics, ISO 4217. Captured costs in another currency
    get
    an event type of their own, so that no sum mixes two. Nothing is converted."""

    price_book: Annotated[Path, AfterValidator(_folder)] | None = None
    """The file of your own prices, TOML or JSON. See docs/pricing.md."""

    update_prices: bool = False
    """Whether genai-prices fetches its newest list from GitHub every hour. Otherwise
    prices are as new as the installed package."""

    customer_id: Text | None = None
    """The customer of a program that serves only one. All costs that name no other
    customer belong to it, and ``unattributed`` does not apply."""

    unattributed: Literal["default_customer", "error", "drop"] = "default_customer"
    """The policy for costs without a customer. ``default_customer``: they are tracked
    for
    ``unattributed_customer_id``, with a warning. ``error``: `track_cost` raises, and
    captured costs are dropped. ``drop``: they are dropped, counted and reported."""

    unattributed_customer_id: Text = "unattributed"
    """The customer of costs without one."""

    hash_customer_ids: Annotated[SecretStr, AfterValidator(_key)] | None = None
    """A secret key. With it, customer ids are stored and sent only as keyed digests."""

    max_journal_bytes: Annotated[int, Field(ge=256 * KIB)] = GIB
    """The limit of the destination's folder in bytes. Beyond it, new events are dropped
    and counted. It holds one segment at least."""

    segment_bytes: Annotated[int, Field(ge=64 * KIB, le=GIB)] = 8 * MIB
    """The size of one journal file in bytes."""

    max_memory_bytes: Annotated[int, Field(ge=MIB)] = 16 * MIB
    """The limit of the memory buffer in bytes. It is used when no folder is
    writable."""

    max_unpriced_bytes: Annotated[int, Field(ge=64 * KIB)] = 64 * MIB
    """The limit of the captured costs that wait for a price, in bytes. Beyond it, new
    ones are dropped and counted."""

    max_batch_events: Annotated[int, Field(ge=1, le=1000)] = 1000
    """The largest number of events in a batch. The batch extension allows 1000."""

    max_batch_bytes: Annotated[int, Field(ge=512 * KIB)] = 4 * MIB
    """The largest size of a batch in bytes."""

    max_senders: Annotated[int, Field(ge=1, le=32)] = 8
    """The largest number of requests in flight."""

    linger: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 0.1
    """The seconds to wait for more events after one arrives in an idle client."""

    timeout: Seconds = 10.0
    """The seconds of each wait for the network: to connect, to write, to read."""

    deadline: Seconds = 60.0
    """The seconds of a whole request, even if bytes arrive. Then it counts as one
    without
    a response."""

    retry_initial: Seconds = 0.5
    """The seconds of the first backoff. It doubles with every attempt, with full
    jitter."""

    retry_max: Seconds = 60.0
    """The longest backoff in seconds."""

    parked_retry_interval: Seconds = 3600.0
    """The seconds between attempts of parked events."""

    dedupe_window: Seconds = 24 * 3600.0
    """The seconds for which the server recognises a key that it has seen."""

    dedupe_margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 3600.0
    """The seconds before the window's end at which an event in doubt is no longer
    resent."""

    exit_timeout: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 3.0
    """The seconds that the process may spend at exit on shipping. If the server is
    known
    to be down, it is at most 1. The rest stays on disk."""

    @model_validator(mode="after")
    def _check_journal_holds_a_segment(self) -> Self:
        # Segments are preallocated: without room for one, every event would be dropped.
        if self.max_journal_bytes < self.segment_bytes:
            message = (
                f"max_journal_bytes={self.max_journal_bytes} holds no segment of "
                f"segment_bytes={self.segment_bytes}: raise "
                f"{PREFIX}MAX_JOURNAL_BYTES, or lower {PREFIX}SEGMENT_BYTES"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _check_agent_has_a_disk(self) -> Self:
        if self.shipping == "agent" and self.durability == "memory":
            message = (
                "shipping=agent needs events on disk, where the agent finds them: set "
                f"{PREFIX}DURABILITY=process or disk, or {PREFIX}SHIPPING=thread"
            )
            raise ValueError(message)
        return self
