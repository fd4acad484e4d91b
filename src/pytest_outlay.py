"""A pytest plugin: the costs of the code under test.

    def test_a_summary_costs_what_it_should(costs):
        summarise(document)

        assert costs.total(customer="cus_123") == Decimal("0.0123")

pytest loads this module in every project that has outlay installed. So it imports no
other part of outlay before a test uses the fixture. Coverage then sees these imports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay._client_options import SettingsInput
    from outlay.testing import Costs


@pytest.fixture
def outlay_settings() -> SettingsInput:
    """Settings of the client behind `costs`. Override this fixture to change them."""
    return {}


@pytest.fixture
def costs(outlay_settings: SettingsInput) -> Iterator[Costs]:
    """The costs that the test tracks and captures. Nothing is sent or written.

    The default client records during the test, even if the code under test configures
    another one.
    """
    from outlay.testing import recording  # noqa: PLC0415 - see above

    with recording(**outlay_settings) as recorded:
        yield recorded
