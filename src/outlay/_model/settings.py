"""Settings: argument, then environment variable, then default, resolved once.

The only module that reads the environment. Each setting has one variable, named
``OUTLAY_`` and the setting's name in capitals.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self
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
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

DEFAULT_BASE_URL: Final = "http://127.0.0.1:4600"
"""The bundled reference server: without a setting, nothing leaves the host."""

_PREFIX: Final = "OUTLAY_"
_CURRENCY_CHARS: Final = 3

_MIN_KEY_CHARS: Final = 16
"""A shorter key could be guessed, and with it every customer id that was hashed."""


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
    """Return whether the server is on this machine, where no proxy could reach it."""
    return urlsplit(base_url).hostname in {"127.0.0.1", "::1", "localhost"}


def state_folder() -> Path:
    """Return where the platform has programs keep outlay's state."""
    return platformdirs.user_state_path("outlay", appauthor=False)


def temporary_folder() -> Path:
    """Return where the platform keeps what may be gone after a reboot."""
    return Path(tempfile.gettempdir())


def _folder(value: Path) -> Path:
    try:
        return value.expanduser()
    except RuntimeError:  # nobody knows the user's home
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

    model_config = ConfigDict(
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
        prefix: str = _PREFIX,
    ) -> Self:
        """Return the settings that ``arguments`` and the environment make.

        Args:
            arguments: settings by name; None means "not given".
            environ: environment variables; by default the process's own.
            prefix: what the variables' names begin with.

        Raises:
            ConfigError: a setting is unknown or malformed; the message names the
                argument or variable, and what is allowed. It never shows a secret.
        """
        environ = os.environ if environ is None else environ
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
        return "; ".join(cls._explain_one(problem, variables) for problem in problems)

    @classmethod
    def _explain_one(cls, problem: ErrorDetails, variables: Mapping[str, str]) -> str:
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


def _is_secret(field: FieldInfo) -> bool:
    return not field.repr or "SecretStr" in str(field.annotation)


def _may_hold_secret(value: object) -> bool:
    # An address that was refused may have a password or a token in it.
    return isinstance(value, str) and ("@" in value or "?" in value)


class Settings(EnvironmentSettings):
    """How a client tracks, keeps and ships. Immutable; see docs/settings.md."""

    api_key: Annotated[SecretStr, AfterValidator(_header_text)] | None = None
    """Credential, sent as ``Authorization: Bearer``. None: sent without one."""

    base_url: Annotated[str, AfterValidator(_http_url)] = DEFAULT_BASE_URL
    """Where the service is; paths such as ``/v0/events`` are appended."""

    source: Text = "urn:outlay:app"
    """URI that names this application. Part of every idempotency key: keep it stable
    across machines and releases."""

    namespace: Text | None = None
    """Organization to write to, where the credential may write to several."""

    journal_dir: Annotated[Path, AfterValidator(_folder)] | None = None
    """Folder of the journal; ``~`` is the home. None: the platform's state folder."""

    shipping: Literal["thread", "agent", "none"] = "thread"
    """``thread``: a background thread ships. ``agent``: ``outlay agent``, a process of
    its own, ships while this one tracks. ``none``: events stay in the journal until
    this process has ended and another with the same folder and destination ships."""

    durability: Literal["process", "disk", "memory"] = "process"
    """``process``: an event survives the death of the process. ``disk``: it survives
    the death of the machine, too, and `track_cost` waits for the disk. ``memory``: it
    survives neither; nothing is written to disk."""

    batching: Literal["auto", "never", "always"] = "auto"
    """``auto``: batches once the server has advertised them. ``always``: from the
    first request. ``never``: one event a request."""

    metrics: bool = True
    """Whether OpenTelemetry is told what becomes of the events, see
    docs/operating.md."""

    compression: Literal["auto", "never", "always"] = "auto"
    """``auto``: large bodies, where the server has said that it takes them, unless it
    is on this machine. ``always``: large bodies, from the first request."""

    allow_credits: bool = False
    """Whether negative amounts are taken."""

    currency: Annotated[str, AfterValidator(_currency)] = "USD"
    """What the cost metrics count in, ISO 4217. Captured costs in another currency get
    an event type of their own, so that no sum mixes two; nothing is converted."""

    price_book: Annotated[Path, AfterValidator(_folder)] | None = None
    """File of one's own prices, TOML or JSON; see docs/pricing.md."""

    update_prices: bool = False
    """Whether genai-prices fetches its newest list, every hour, from GitHub. Otherwise
    prices are as new as the installed package."""

    unattributed: Literal["bucket", "error", "drop"] = "bucket"
    """What becomes of a cost that belongs to no customer. ``bucket``: it is tracked for
    ``unattributed_customer_id``, with a warning. ``error``: `track_cost` raises; what
    was captured is dropped. ``drop``: it is dropped, counted and reported."""

    unattributed_customer_id: Text = "unattributed"
    """Customer of the costs that belong to none."""

    hash_customer_ids: Annotated[SecretStr, AfterValidator(_key)] | None = None
    """Secret key. With it, customer ids are kept and sent only as keyed digests."""

    max_journal_bytes: Annotated[int, Field(ge=256 * KIB)] = GIB
    """Limit of the destination's folder; past it, new events are dropped, counted.
    Room for one segment at least."""

    segment_bytes: Annotated[int, Field(ge=64 * KIB, le=GIB)] = 8 * MIB
    """Size of one journal file."""

    max_memory_bytes: Annotated[int, Field(ge=MIB)] = 16 * MIB
    """Limit of the memory buffer, used when no folder is writable."""

    max_unpriced_bytes: Annotated[int, Field(ge=64 * KIB)] = 64 * MIB
    """Limit of the captured costs that wait for a price; past it, new ones are dropped,
    counted."""

    max_batch_events: Annotated[int, Field(ge=1, le=1000)] = 1000
    """Most events in one batch request; the batch extension allows 1000."""

    max_batch_bytes: Annotated[int, Field(ge=512 * KIB)] = 4 * MIB
    """Most bytes in one batch request."""

    max_senders: Annotated[int, Field(ge=1, le=32)] = 8
    """Most requests under way at once."""

    linger: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 0.1
    """Seconds to wait for company after an event arrives in an idle client."""

    timeout: Seconds = 10.0
    """Seconds of each wait for the network: to connect, to write, to read."""

    deadline: Seconds = 60.0
    """Seconds of a whole request, however lively it is; then it counts as
    unanswered."""

    retry_initial: Seconds = 0.5
    """Seconds of the first backoff; doubles with every attempt, with full jitter."""

    retry_max: Seconds = 60.0
    """Longest backoff in seconds."""

    parked_retry_interval: Seconds = 3600.0
    """Seconds between attempts of parked events."""

    dedupe_window: Seconds = 24 * 3600.0
    """Seconds for which the server recognises a key it has seen."""

    dedupe_margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 3600.0
    """Seconds before the window's end when an unanswered event stops being resent."""

    exit_timeout: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 3.0
    """Seconds the process may spend at exit on shipping; the rest stays on disk."""

    @model_validator(mode="after")
    def _check_journal_holds_a_segment(self) -> Self:
        # Segments are preallocated: without room for one, every event would be dropped.
        if self.max_journal_bytes < self.segment_bytes:
            message = (
                f"max_journal_bytes={self.max_journal_bytes} holds no segment of "
                f"segment_bytes={self.segment_bytes}: raise "
                f"{_PREFIX}MAX_JOURNAL_BYTES, or lower {_PREFIX}SEGMENT_BYTES"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _check_agent_has_a_disk(self) -> Self:
        if self.shipping == "agent" and self.durability == "memory":
            message = (
                "shipping=agent needs events on disk, where the agent finds them: set "
                f"{_PREFIX}DURABILITY=process or disk, or {_PREFIX}SHIPPING=thread"
            )
            raise ValueError(message)
        return self
