"""The settings of the server, with their limits."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from outlay.server._spelling import CURRENCY, ORGANIZATION, Spelling

__all__ = ("ServerSettings",)

_MIN_SECRET_BYTES: Final = 32  # as many as a signature by HMAC with SHA-256 has

_PostgresUrl: TypeAlias = Annotated[
    str,
    Spelling("^postgres(ql)?://.*$", "must be a URL such as postgresql://HOST/NAME"),
]
_ClickhouseUrl: TypeAlias = Annotated[
    str, Spelling("^clickhouse://.*$", "must be a URL such as clickhouse://HOST/NAME")
]


class ServerSettings(BaseModel):
    """The settings of one server. Immutable. Environment variables are not read here.

    Raises:
        pydantic.ValidationError: A value is outside the range of its field.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True
    )

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """The address to listen on. Loopback by default, because a server without TLS must
    not be reached by other machines."""

    port: Annotated[int, Field(ge=0, le=65_535)] = 4600
    """The port to listen on. 0 takes any free port."""

    allowed_hosts: tuple[str, ...] = ()
    """The host names of the server in URLs, besides ``localhost``, ``host`` and all IP
    addresses. If ``host`` is all addresses, the machine's name is one. ``*`` allows
    all names."""

    tls_cert: Path | None = None
    """The file with the certificate and its chain, as PEM. If None, the server speaks
    plain HTTP."""

    tls_key: Path | None = None
    """The file with the certificate's private key, as PEM. If None, it is in the file
    of the certificate."""

    database: Path | Literal[":memory:"] = Path("outlay.db")
    """The SQLite file, created on first use. ``:memory:`` is a temporary file that is
    deleted when the server stops."""

    store: Annotated[_PostgresUrl | None, Field(repr=False)] = None
    """The URL of a PostgreSQL database, which any number of servers share. It may have
    a password. If None, the server stores everything in ``database``."""

    history: Annotated[_ClickhouseUrl | None, Field(repr=False)] = None
    """The URL of a ClickHouse database, to which days that are over move from the
    database of ``store``. It may have a password. If None, all days stay there."""

    api_key: Annotated[str | None, Field(min_length=1, repr=False)] = None
    """A fixed key with all permissions. If None, the keys in the database are valid,
    and a database without keys gets a generated one."""

    session_secret: Annotated[str | None, Field(repr=False)] = None
    """The secret that signs the cookies and one-time links of the dashboard, of 32
    bytes or more. All servers of a store need the same. It opens the dashboard to all
    who know it. If None, each server makes its own, which ends with it."""

    namespace: Annotated[str, ORGANIZATION] = "org_local"
    """The organization of the fixed and of the generated key."""

    dedupe_window: Annotated[timedelta, Field(gt=timedelta(0))] = timedelta(hours=24)
    """The time for which an idempotency key is remembered after its first receipt."""

    accept_unmatched: bool = False
    """Accept events whose type has no cost metric, instead of a 422."""

    dev: bool = False
    """Serve for development: without a key, on loopback only, with default metrics, and
    accepting ``cost.*`` events whose type has no cost metric."""

    default_metrics: bool = False
    """Create cost metrics for all captured event types in a new database."""

    strict_products: bool = False
    """Refuse a cost of an unknown product with 404, instead of registering it."""

    strict_timestamps: bool = False
    """Refuse a time without an offset with 400, instead of reading it as UTC."""

    default_currency: Annotated[str, CURRENCY] = "USD"
    """The currency of a cost metric that names none."""

    max_event_bytes: Annotated[int, Field(ge=1024)] = 1024 * 1024
    """The largest body of one event, and of any request other than a batch."""

    max_batch_bytes: Annotated[int, Field(ge=1024)] = 16 * 1024 * 1024
    """The largest body of a batch."""

    max_batch_events: Annotated[int, Field(ge=1)] = 1000
    """The most events in one batch. The service's own retired batch took as many."""

    max_waiting_events: Annotated[int, Field(ge=1)] = 100_000
    """The most events that may wait for the disk. Further ones are refused with 503."""

    max_waiting_bytes: Annotated[int, Field(ge=1024 * 1024)] = 128 * 1024 * 1024
    """The most memory that the bodies of all requests in flight may take, decoded.
    Further ones are refused with 503."""

    max_connections: Annotated[int, Field(ge=1)] = 10_000
    """The most open connections. The system's limit of open files may be lower."""

    max_connections_per_address: Annotated[int, Field(ge=1)] = 1000
    """The most open connections of one address."""

    rate_limit: Annotated[float | None, Field(gt=0)] = None
    """The requests per second of one API key. Further ones are refused with 429. If
    None, there is no limit."""

    head_timeout: Annotated[float, Field(gt=0)] = 10.0
    """The seconds within which a request line and its headers must arrive."""

    body_timeout: Annotated[float, Field(gt=0)] = 60.0
    """The seconds within which a body must arrive, and a response must be read."""

    query_timeout: Annotated[float, Field(gt=0)] = 30.0
    """The most seconds for a summary or report. A longer one is refused with 503."""

    webhook_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """The networks that webhooks may reach although they are not public, such as
    ``10.0.0.0/8``. Only there may a URL of a webhook be plain HTTP."""

    webhook_timeout: Annotated[float, Field(gt=0, le=25)] = 10.0
    """The seconds that an attempt to deliver a message to a webhook may take."""

    shutdown_timeout: Annotated[float, Field(ge=0)] = 10.0
    """The seconds that requests in flight have when the server stops."""

    public_metrics: bool = False
    """Serve ``/metrics`` without a key. By default it needs the permission
    ``metrics:read``, because the numbers of events say much about a business."""

    log_format: Literal["text", "json"] = "text"
    """The format of the command's log."""

    access_log: bool = False
    """Log a line for each request."""

    @field_validator("session_secret")
    @classmethod
    def _is_long(cls, value: str | None) -> str | None:
        if value is not None and len(value.encode()) < _MIN_SECRET_BYTES:
            raise ValueError(
                f"must have {_MIN_SECRET_BYTES} bytes or more; make one with: "
                "openssl rand -hex 32"
            )
        return value

    @model_validator(mode="after")
    def _stays_on_loopback(self) -> Self:
        if self.dev and not is_loopback(self.host):
            raise ValueError(
                "dev serves without a key, so host must be a loopback address; "
                "set host to 127.0.0.1, or dev to false"
            )
        return self

    @model_validator(mode="after")
    def _has_certificate(self) -> Self:
        if self.tls_key is not None and self.tls_cert is None:
            raise ValueError("tls_key needs tls_cert; set both")
        return self

    @model_validator(mode="after")
    def _has_ledger(self) -> Self:
        if self.history is not None and self.store is None:
            raise ValueError(
                "history needs store, the PostgreSQL database whose days move; set both"
            )
        return self

    @property
    def engine(self) -> str:
        """The kind of the store."""
        if self.store is None:
            return "SQLite"
        return "PostgreSQL" if self.history is None else "PostgreSQL and ClickHouse"

    @property
    def store_place(self) -> str:
        """The place of all data, for logs and people. It has no user or password."""
        if self.store is None:
            return str(self.database)
        url = urlsplit(self.store)
        return f"postgresql://{url.netloc.rpartition('@')[2]}{url.path}"

    @property
    def listens_everywhere(self) -> bool:
        """Whether the server listens on all addresses of the machine."""
        with suppress(ValueError):
            return ip_address(self.host).is_unspecified
        return False

    @property
    def is_exposed(self) -> bool:
        """Whether other machines reach the server, without encryption."""
        return self.tls_cert is None and not is_loopback(self.host)

    def accepts_unmatched(self, event_type: str) -> bool:
        """Return whether an event whose type has no cost metric is accepted."""
        return self.accept_unmatched or (self.dev and event_type.startswith("cost."))


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return False
