"""Which server a handle goes to, and which settings come with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tiercache import TierCache, configure, default_cache


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """The default cache of a test ends with it."""
    yield
    default_cache().sync.close()


def test_a_cache_without_a_url_has_the_settings_of_the_default_cache() -> None:
    configure("memory://", ttl="1h", l1_ttl=60, jitter=0.1, namespace="shop")

    made, other = TierCache(), TierCache(ttl=5)

    assert made._settings == default_cache()._settings
    assert (other._settings.ttl, other._settings.l1_ttl) == (5, 60)
    made.sync.close()
    other.sync.close()
