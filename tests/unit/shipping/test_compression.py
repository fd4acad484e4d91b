"""Which bodies are compressed: a table of situations."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay._shipping.compression import MIN_BYTES, BodyCompressor

if TYPE_CHECKING:
    from outlay._shipping.compression import Compression

_LARGE = b'{"events":[' + b'{"amount":0.0042},' * 200


@pytest.mark.parametrize(
    ("compression", "loopback", "accepted", "packs"),
    [
        pytest.param("auto", False, None, False, id="not offered"),
        pytest.param("auto", False, "gzip", True, id="offered"),
        pytest.param("auto", False, "br, GZIP;q=0.5", True, id="offered among others"),
        pytest.param("auto", False, "gzip;q=0", False, id="ruled out"),
        pytest.param("auto", False, "identity", False, id="only plain"),
        pytest.param("auto", False, "x-gzip-like", False, id="another coding"),
        pytest.param("auto", True, "gzip", False, id="on this machine"),
        pytest.param("never", False, "gzip", False, id="never"),
        pytest.param("always", True, None, True, id="always"),
    ],
)
def test_large_bodies_are_packed_where_that_is_welcome_and_pays(
    compression: Compression, accepted: str | None, *, loopback: bool, packs: bool
) -> None:
    """A service that did not ask for it may take the bytes for a broken event."""
    compressor = BodyCompressor(compression, loopback=loopback)

    compressor.update_from({} if accepted is None else {"accept-encoding": accepted})
    packed = compressor.compress(_LARGE)

    assert (packed is not None) == packs
    if packed is not None:
        assert gzip.decompress(packed) == _LARGE
        assert len(packed) < len(_LARGE) / 5


def test_what_fits_into_a_packet_goes_as_it_is() -> None:
    """It would save nothing, and cost the same."""
    compressor = BodyCompressor("always", loopback=False)

    assert compressor.compress(b" " * (MIN_BYTES - 1)) is None
    assert compressor.compress(b" " * MIN_BYTES) is not None


def test_an_offer_holds_until_it_is_taken_back() -> None:
    """Not every answer on the way repeats it: a gateway's 502 does not."""
    compressor = BodyCompressor("auto", loopback=False)
    compressor.update_from({"accept-encoding": "gzip"})
    compressor.update_from({})
    kept = compressor.compress(_LARGE)
    compressor.update_from({"accept-encoding": "identity"})

    assert kept is not None
    assert compressor.compress(_LARGE) is None


@pytest.mark.parametrize("compression", ["auto", "always"])
def test_after_a_refusal_nothing_is_packed_whatever_is_offered(
    compression: Compression,
) -> None:
    """A server whose word and deed differ is taken by its deed."""
    compressor = BodyCompressor(compression, loopback=False)
    compressor.update_from({"accept-encoding": "gzip"})

    compressor.disable()
    compressor.update_from({"accept-encoding": "gzip"})

    assert compressor.compress(_LARGE) is None


@given(st.text(max_size=40))
def test_no_header_does_any_harm(accepted: str) -> None:
    """It comes from outside."""
    BodyCompressor("auto", loopback=False).update_from({"accept-encoding": accepted})
