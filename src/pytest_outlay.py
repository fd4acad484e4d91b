"""The pytest plugin of outlay: what the code under test costs.

    def test_a_summary_costs_what_it_should(costs):
        summarise(document)

        assert costs.total(customer="cus_123") == Decimal("0.0123")

pytest loads this module in every project that has outlay installed. So it imports none
of it until a test asks for its costs, which also lets coverage see outlay's imports.
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
    """Settings of the client behind `costs`, to be overridden: none but defaults."""
    return {}


@pytest.fixture
def costs(outlay_settings: SettingsInput) -> Iterator[Costs]:
    """What the test tracks, and what is captured meanwhile; nothing is sent or written.

    The default client is one that records, whatever the code under test configures.
    """
    from outlay.testing import recording  # noqa: PLC0415 - see above

    with recording(**outlay_settings) as recorded:
        yield recorded
