"""The pytest plugin, in runs of pytest as other projects have them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ["pytester"]

STRICT: Final = """
[pytest]
filterwarnings = error
addopts = --strict-markers -p no:cacheprovider
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return an empty project, in which warnings are errors."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini(STRICT)
    return Project(pytester)


class Project:
    """A project with tests of its own."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester

    def run(self, tests: str, *options: str) -> pytest.RunResult:
        """Run tests in this process, with no plugin but outlay's."""
        self._pytester.makepyfile(tests)
        return self._pytester.runpytest_inprocess("-p", "pytest_outlay", *options)


def test_costs_are_compared_and_nothing_is_left(project: Project) -> None:
    """The default client is the test's own, and the next test's is another."""
    ran = project.run("""
        from decimal import Decimal
        import outlay

        def summarise():
            outlay.track_cost("cost.ai", "0.0123", customer_id="cus_1", provider="acme")

        def test_one(costs):
            assert outlay.default_client() is costs.client
            summarise()
            assert costs.total(customer="cus_1", provider="acme") == Decimal("0.0123")
            costs.assert_total("0.0123")
            assert [event.subject for event in costs.events] == ["cus_1"]

        def test_two(costs):
            assert costs.total() == 0
    """)

    ran.assert_outcomes(passed=2)


def test_a_failure_shows_the_line_and_the_costs(project: Project) -> None:
    """Not the inside of outlay: what was expected, where, and what there was."""
    ran = project.run("""
        import outlay

        def test_it(costs):
            outlay.track_cost("cost.ai", "0.0042", customer_id="cus_1", operation_id=1)
            costs.assert_total("0.0123", customer="cus_1")
    """)

    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines(
        [
            ">       costs.assert_total(*",
            "E       AssertionError: the costs (customer='cus_1') sum to 0.0042, *",
            "E          customer  type     provider  line  operation id  amount",
            "E       [*]  cus_1     cost.ai  -         -     1             0.0042",
            "*:5: AssertionError",
        ]
    )
    ran.stdout.no_fnmatch_line("*testing.py*")


def test_a_failed_comparison_says_how_much_there_was(project: Project) -> None:
    """Where a test compares by itself."""
    ran = project.run("""
        import outlay

        def test_it(costs):
            outlay.track_cost("cost.ai", "0.0042", customer_id="cus_1", operation_id=1)
            assert costs.total() == 1
    """)

    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines(["*Decimal('0.0042') == 1*", "*<Costs events=1 unpr*"])


def test_settings_are_a_fixture_to_be_overridden(project: Project) -> None:
    """By a project, a module or a class, as fixtures are."""
    ran = project.run("""
        import outlay, pytest

        @pytest.fixture
        def outlay_settings():
            return {"unattributed": "error"}

        def test_it(costs):
            with pytest.raises(outlay.InvalidEventError):
                outlay.track_cost("cost.ai", 1)
    """)

    ran.assert_outcomes(passed=1)


def test_the_earlier_default_client_returns(project: Project) -> None:
    """A fixture of the project's may have configured one for the session."""
    ran = project.run("""
        import outlay, pytest

        @pytest.fixture(scope="module")
        def configured():
            client = outlay.configure(shipping="none", durability="memory")
            yield client
            outlay.close()

        def test_recorded(configured, costs):
            outlay.track_cost("cost.ai", 1, customer_id="cus_1")
            assert outlay.configure() is costs.client is not configured

        def test_then(configured):
            assert outlay.default_client() is configured
            assert configured.stats().tracked == 0
    """)

    ran.assert_outcomes(passed=2)


def test_captured_calls_are_recorded(project: Project) -> None:
    """By the real package, on a transport that answers what the test wants."""
    ran = project.run("""
        from decimal import Decimal
        import httpx2, openai, outlay

        ANSWER = {
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1795176000,
            "model": "gpt-4o-2024-08-06", "choices": [],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 100,
                      "total_tokens": 1100},
        }

        def ask(model):
            def respond(request):
                return httpx2.Response(200, json=ANSWER | {"id": model, "model": model})
            http_client = httpx2.Client(transport=httpx2.MockTransport(respond))
            with openai.OpenAI(api_key="sk-test", http_client=http_client) as client:
                outlay.instrument(client)
                with outlay.attribute(customer_id="cus_1"):
                    client.chat.completions.create(model=model, messages=[])

        def test_it(costs):
            ask("gpt-4o")
            ask("gpt-unheard-of")
            costs.assert_total("0.0035", customer="cus_1", provider="openai")
            (unpriced,) = costs.unpriced
            assert unpriced.event.subject == "cus_1"
    """)

    ran.assert_outcomes(passed=1)


# Whole processes, as users start them.


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty home folder, which processes started by a test have."""
    for name in [name for name in os.environ if name.startswith("OUTLAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


def start(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    """Run the project's tests in a process of its own."""
    pytester.makeini(STRICT)
    return pytester.run(sys.executable, "-m", "pytest", *options, timeout=50)


@pytest.mark.usefixtures("home")
def test_a_run_imports_nothing_of_outlay_before_a_test_asks(
    pytester: pytest.Pytester,
) -> None:
    """Every project that has outlay installed starts its tests with the plugin.

    Had it been imported before the measuring begins, coverage would warn, and would
    miss what modules do when they are imported.
    """
    pytester.makepyfile("""
        import sys

        def test_without_costs(pytestconfig):
            assert pytestconfig.pluginmanager.has_plugin("outlay")
            found = [name for name in sys.modules if name.split(".")[0] == "outlay"]
            assert found == []

        def test_with_costs(costs):
            assert "outlay" in sys.modules
            assert costs.total() == 0
    """)

    # Those take seconds to import, or change the order.
    others = ("faker", "hypothesispytest", "logfire", "randomly", "schemathesis")
    without = [word for name in others for word in ("-p", f"no:{name}")]
    ran = start(pytester, *without, "--cov=outlay.testing")

    ran.assert_outcomes(passed=2)
    ran.stdout.fnmatch_lines(["*outlay/testing.py*"])
    ran.stdout.no_fnmatch_line("*arning*")
    ran.stderr.no_fnmatch_line("*arning*")


def test_nothing_is_sent_or_written(
    pytester: pytest.Pytester,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the environment says: it may be that of production."""
    spill = tmp_path / "spill"
    monkeypatch.setenv("OUTLAY_JOURNAL_DIR", str(spill))
    monkeypatch.setenv("OUTLAY_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    # Those of other packages come with the first client, and derive from sockets.
    monkeypatch.setenv("PYDANTIC_DISABLE_PLUGINS", "__all__")
    pytester.makepyfile("""
        import socket
        import outlay, pytest
        from outlay.extractors import Observation
        from outlay._capture.recorder import Recorder

        @pytest.fixture(autouse=True)
        def offline(monkeypatch):
            def refuse(*_):
                raise AssertionError("a socket was opened")
            monkeypatch.setattr(socket, "socket", refuse)

        def test_it(costs):
            outlay.track_cost("cost.ai", 1, customer_id="cus_1")
            seen = Observation(provider="acme", event_type="cost.a")
            Recorder.for_client().record(seen)
            assert len(costs.events) == len(costs.unpriced) == 1
            assert outlay.flush().complete and outlay.close().complete
    """)

    ran = start(pytester, "-p", "pytest_outlay")

    ran.assert_outcomes(passed=1)
    assert [*home.rglob("*")] == []
    assert not spill.exists()
