"""The options of an httpx client for the server that settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

from outlay._model.settings import is_loopback
from outlay.errors import ConfigError

if TYPE_CHECKING:
    import ssl

    from outlay._model.settings import Settings


def client_options(settings: Settings) -> dict[str, Any]:
    """Return the time limit, the proxies and the certificates of a client.

    A server on this machine needs no proxy. It may have a certificate of an authority
    that only ``SSL_CERT_FILE`` names.

    Raises:
        ConfigError: The authorities that the environment names cannot be read.
    """
    options: dict[str, Any] = {
        "timeout": settings.timeout,
        "trust_env": not is_loopback(settings.base_url),
    }
    # Reading all certificates takes long, and only TLS needs them.
    if settings.base_url.startswith("https:"):
        options["verify"] = authorities()
    return options


def authorities() -> ssl.SSLContext:
    """Return the certificate authorities that the environment or httpx names.

    Raises:
        ConfigError: The file or the folder of the environment cannot be read.
    """
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        raise ConfigError(
            f"the certificates that SSL_CERT_FILE names cannot be used ({error}); "
            "correct or unset it"
        ) from error


def request_headers(settings: Settings) -> dict[str, str]:
    """Return the headers of each request: the form of responses, and the credential."""
    headers = {"accept": "application/json"}
    if settings.api_key is not None:
        key = settings.api_key.get_secret_value()
        headers["authorization"] = f"Bearer {key}"
    return headers
