"""An archive of 300 objects, published once per test worker and mirrored into a fresh lake by each test."""

from __future__ import annotations

import random
import time

import pytest

from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets_tests.faults.killed_sync import DONE
from lakehouse_assets_tests.faults.victim import Archive, Victim, publish
from lakehouse_assets_tests.world import World, days


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Moments of a kill: one random moment of each third of a sync's time, or of each tenth if thorough."""
    if "moment" in metafunc.fixturenames:
        parts = 10 if metafunc.config.getoption("thorough") else 3
        moments = [(part + random.Random(part).random()) / parts for part in range(parts)]
        metafunc.parametrize("moment", moments, ids=[f"{moment:.2f}" for moment in moments])


@pytest.fixture(scope="session")
def published(store: EmbeddedStore) -> Archive:
    """10 symbols with 30 days each; one of the symbols has sidecars."""
    return publish(World(store), 10, days("2024-01-01", "2024-01-30"), with_sidecars=1)


@pytest.fixture
def archive(published: Archive) -> Archive:
    return published.with_fresh_lake()


@pytest.fixture(scope="session")
def usual_seconds(published: Archive) -> float:
    """Seconds of a sync that is not killed, from its first request to its end."""
    victim = Victim(published.with_fresh_lake())
    assert victim.wait_for("listing")
    started = time.monotonic()
    assert victim.wait_for(DONE)
    took = time.monotonic() - started
    victim.kill()
    victim.end()
    return took


@pytest.fixture
def small(world: World) -> Archive:
    """Four symbols with ten days each; two of the symbols have sidecars."""
    return publish(world, 4, days("2024-01-01", "2024-01-10"), with_sidecars=2)
