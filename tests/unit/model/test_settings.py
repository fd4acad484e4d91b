"""Settings: argument, then variable, then default; and what is said if one is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import SecretStr, ValidationError

from outlay._client_options import SettingsInput
from outlay._model.settings import Settings
from outlay.errors import ConfigError

PAGE = (Path(__file__).parents[3] / "docs" / "settings.md").read_text(encoding="utf-8")
TABLE: dict[str, list[str]] = {
    cells[0]: list(cells[1:])
    for cells in re.findall(
        r"^\| `(\w+)` \| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE
    )
}

KEY = "f6f1c1d05c0f4f9e8a1d2b3c4d5e6f70"

# A value for each setting that is neither its default nor refused, as a variable has
# it and as it is then read.
READ: dict[str, tuple[str, object]] = {
    "api_key": ("sk_test_1", SecretStr("sk_test_1")),
    "base_url": ("https://costs.example.com/api/", "https://costs.example.com/api"),
    "source": ("https://api.myapp.com", "https://api.myapp.com"),
    "namespace": ("org_1", "org_1"),
    "journal_dir": ("/var/spool/outlay", Path("/var/spool/outlay")),
    "shipping": ("none", "none"),
    "durability": ("memory", "memory"),
    "batching": ("never", "never"),
    "metrics": ("false", False),
    "compression": ("never", "never"),
    "allow_credits": ("true", True),
    "currency": ("EUR", "EUR"),
    "price_book": ("/etc/outlay/prices.toml", Path("/etc/outlay/prices.toml")),
    "update_prices": ("true", True),
    "unattributed": ("error", "error"),
    "customer_id": ("cus_1", "cus_1"),
    "unattributed_customer_id": ("cus_nobody", "cus_nobody"),
    "hash_customer_ids": (KEY, SecretStr(KEY)),
    "max_journal_bytes": ("33554432", 33554432),
    "segment_bytes": ("1048576", 1048576),
    "max_memory_bytes": ("1048576", 1048576),
    "max_unpriced_bytes": ("1048576", 1048576),
    "max_batch_events": ("10", 10),
    "max_batch_bytes": ("1048576", 1048576),
    "max_senders": ("2", 2),
    "linger": ("0", 0.0),
    "timeout": ("2.5", 2.5),
    "deadline": ("30", 30.0),
    "retry_initial": ("0.1", 0.1),
    "retry_max": ("30", 30.0),
    "parked_retry_interval": ("60", 60.0),
    "dedupe_window": ("3600", 3600.0),
    "dedupe_margin": ("60", 60.0),
    "exit_timeout": ("0", 0.0),
}

each_setting = pytest.mark.parametrize("name", list(Settings.model_fields))


def variable_of(name: str) -> str:
    """Return the variable that the documentation names."""
    return TABLE[name][0]


@each_setting
def test_a_variable_replaces_the_default(name: str) -> None:
    """Deployments configure by environment; each setting can be reached so."""
    text, value = READ[name]

    settings = Settings.resolve(environ={variable_of(name): text})
    assert getattr(settings, name) == value
    assert getattr(Settings.resolve(environ={}), name) != value


@each_setting
def test_an_argument_replaces_the_variable(name: str) -> None:
    """The code that makes a client knows best, whatever the environment holds."""
    _, value = READ[name]

    settings = Settings.resolve(
        {name: value}, environ={variable_of(name): "\n not even sound \n"}
    )
    assert getattr(settings, name) == value


@each_setting
def test_none_and_empty_variables_count_as_not_given(name: str) -> None:
    """Wrappers pass None through, and shells export variables without a value."""
    settings = Settings.resolve({name: None}, environ={variable_of(name): ""})

    assert settings == Settings.resolve(environ={})


def test_the_processs_own_environment_is_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without ``environ`` the variables are those of the process, read at the call."""
    monkeypatch.setenv("OUTLAY_SOURCE", "urn:from:environment")

    assert Settings.resolve().source == "urn:from:environment"


def test_variables_of_other_programs_are_left_alone() -> None:
    """OUTLAY_SERVER_PORT, say, belongs to the server."""
    environ = {"OUTLAY_SERVER_PORT": "1", "OUTLAYS": "2", "SOURCE": "3"}

    assert Settings.resolve(environ=environ) == Settings.resolve(environ={})


# What the documentation says.


def test_the_table_lists_every_setting_and_no_other() -> None:
    """A setting without documentation does not exist. One that is gone misleads."""
    assert list(TABLE) == list(Settings.model_fields)


@each_setting
def test_the_table_names_the_variable_that_is_read(name: str) -> None:
    """One variable per setting, by one rule."""
    assert variable_of(name) == f"OUTLAY_{name.upper()}"


@each_setting
def test_the_table_shows_the_default(name: str) -> None:
    """Numbers on the page are the numbers in the code."""
    default = Settings.model_fields[name].default
    shown = TABLE[name][2]

    if name == "journal_dir":
        assert (default, shown) == (None, "the platform's state folder")
    elif default is None:
        assert shown == "none"
    else:
        assert shown.split("`")[1] == str(default)


@each_setting
def test_the_table_shows_the_limits(name: str) -> None:
    """The limits on the page are those that are enforced."""
    shown = {int(number) for number in re.findall(r"\b\d{1,12}\b", TABLE[name][1])}

    for rule in Settings.model_fields[name].metadata:
        for limit in ("ge", "gt", "le", "lt"):
            if (number := getattr(rule, limit, None)) is not None:
                assert number in shown


@each_setting
def test_the_table_shows_the_choices(name: str) -> None:
    """A choice that is added must be explained, and one that is gone must go."""
    annotation = Settings.model_fields[name].annotation
    if get_origin(annotation) is not Literal:
        return

    shown = re.findall(r"`(\w+)`", TABLE[name][1])
    assert shown == list(get_args(annotation))
    for choice in shown:
        assert f"`{choice}`:" in TABLE[name][3]


def test_the_arguments_of_a_client_are_the_settings() -> None:
    """Type checkers see the same names as the code that reads them."""
    assert list(SettingsInput.__annotations__) == list(Settings.model_fields)


# What is refused, and how that is said.

WRONG: dict[str, tuple[str, str, str]] = {
    "no-choice": ("shipping", "later", "'thread', 'agent' or 'none'"),
    "no-number": ("timeout", "soon", "valid number"),
    "no-whole-number": ("max_senders", "2.5", "valid integer"),
    "no-boolean": ("allow_credits", "perhaps", "valid boolean"),
    "below-the-least": ("max_senders", "0", "greater than or equal to 1"),
    "above-the-most": ("max_batch_events", "1001", "less than or equal to 1000"),
    "no-time-at-all": ("timeout", "0", "greater than 0"),
    "endless-time": ("timeout", "inf", "finite number"),
    "not-a-time": ("dedupe_margin", "nan", "finite number"),
    "blank-text": ("source", "  ", "must not be blank"),
    "long-text": ("source", "x" * 256, "has 256 characters, 255 are allowed"),
    "control-characters": ("namespace", "a\tb", "remove the control characters"),
    "other-scheme": ("base_url", "ftp://example.com", "such as https://api.example"),
    "no-scheme": ("base_url", "example.com", "such as https://api.example.com"),
    "no-host": ("base_url", "http://:80", "such as https://api.example.com"),
    "no-port": ("base_url", "http://a:99999", "such as https://api.example.com"),
    "port-zero": ("base_url", "http://a:0", "such as https://api.example.com"),
    "half-an-ipv6-address": ("base_url", "http://[::1", "such as https://api.exam"),
    "line-break": ("base_url", "http://a\n", "such as https://api.example.com"),
    "space": ("base_url", "http://a b", "such as https://api.example.com"),
    "fragment": ("base_url", "http://a#b", "leave query and fragment out"),
    "nobodys-home": ("journal_dir", "~nobody-of-that-name/x", "pass an absolute path"),
}


@pytest.mark.parametrize(("name", "text", "allowed"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_variable_is_named_with_what_is_allowed(
    name: str, text: str, allowed: str
) -> None:
    """The person who deploys reads the message, and has not seen our code."""
    with pytest.raises(ConfigError) as caught:
        Settings.resolve(environ={f"OUTLAY_{name.upper()}": text})

    message = str(caught.value)
    assert message.startswith(f"OUTLAY_{name.upper()}={text!r}"[:60])
    assert allowed in message


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_argument_is_named_with_what_is_allowed(
    name: str, value: str, allowed: str
) -> None:
    """The error points to the argument, not to a variable that is not set."""
    with pytest.raises(ConfigError, match=f"^{name}=") as caught:
        Settings.resolve({name: value}, environ={})

    assert allowed in str(caught.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    """One deployment finds every mistake, not one deployment each."""
    with pytest.raises(ConfigError) as caught:
        Settings.resolve({"linger": -1}, environ={"OUTLAY_TIMEOUT": "soon"})

    assert "OUTLAY_TIMEOUT='soon'" in str(caught.value)
    assert "linger=-1" in str(caught.value)


def test_an_unknown_setting_is_refused_with_those_there_are() -> None:
    """A misspelt argument that is ignored would look like one that works."""
    with pytest.raises(
        ConfigError, match=r"^apikey: no such setting; there are .*api_k"
    ):
        Settings.resolve({"apikey": "sk_live_1"}, environ={})


def test_a_limit_below_one_segment_is_refused() -> None:
    """Segments are allocated in advance: it would drop every single event."""
    with pytest.raises(ConfigError, match="raise OUTLAY_MAX_JOURNAL_BYTES, or lower"):
        Settings.resolve(
            {"api_key": "sk_live_1"}, environ={"OUTLAY_MAX_JOURNAL_BYTES": "300000"}
        )


def test_settings_do_not_change() -> None:
    """A client reads them once; a later change would look as if it worked."""
    settings = Settings.resolve(environ={})

    with pytest.raises(ValidationError, match="frozen"):
        settings.source = "urn:other"


def test_a_trailing_slash_makes_no_other_destination() -> None:
    """Each destination has its own journal; a slash must not orphan one."""
    assert (
        Settings.resolve({"base_url": "http://a/"}, environ={}).base_url == "http://a"
    )


def test_the_users_home_is_understood_in_the_spill_folder() -> None:
    """Service managers pass ``~`` on as it is; a folder of that name is a trap."""
    settings = Settings.resolve(environ={"OUTLAY_JOURNAL_DIR": "~/spill"})

    assert settings.journal_dir == Path.home() / "spill"


# Secrets.

SECRET = "hunter2"


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"api_key": f"{SECRET}\n"}, id="api-key-with-line-break"),
        pytest.param({"api_key": f" {SECRET}"}, id="api-key-with-space"),
        pytest.param({"api_key": f"{SECRET}é"}, id="api-key-beyond-ascii"),
        pytest.param({"api_key": [SECRET]}, id="api-key-in-a-list"),
        pytest.param({"api_key": SECRET.encode() + b"\xff"}, id="api-key-in-bytes"),
        pytest.param({"apikey": SECRET}, id="misspelt-api-key"),
        pytest.param({"base_url": f"https://user:{SECRET}@a.com"}, id="password"),
        pytest.param({"base_url": f"https://{SECRET}@a.com"}, id="user"),
        pytest.param({"base_url": f"ftp://user:{SECRET}@a.com"}, id="wrong-scheme"),
        pytest.param({"base_url": f"user:{SECRET}@a.com"}, id="no-scheme"),
        pytest.param({"base_url": f"https://a.com?key={SECRET}"}, id="query"),
        pytest.param(
            {"api_key": SECRET, "max_journal_bytes": 300_000}, id="contradiction"
        ),
        pytest.param({"api_key": SECRET, "linger": -1}, id="another-setting"),
    ],
)
def test_no_secret_is_in_an_error(given: dict[str, Any]) -> None:
    """Errors go to logs and trackers that many people read."""
    with pytest.raises(ConfigError) as caught:
        Settings.resolve(given, environ={})

    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)
    # Trackers follow what a traceback shows; the validator's own error has the input.
    assert caught.value.__suppress_context__


def test_no_secret_is_in_the_validators_own_error() -> None:
    """A program that makes ``Settings`` without `resolve` gets pydantic's message."""
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"api_key": f"{SECRET}\n"})

    assert SECRET not in str(caught.value)


def test_no_secret_is_in_the_text_of_settings() -> None:
    """Applications log their settings when they start."""
    settings = Settings.resolve(environ={"OUTLAY_API_KEY": SECRET})

    assert SECRET not in str(settings)
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings.model_dump())
    assert SECRET not in settings.model_dump_json()
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == SECRET
