"""Fixtures for every test: a real object store per worker, and a separate world per test."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import certifi
import hypothesis
import pytest

from lakehouse_assets.archive.bucket import TOKEN_VARIABLES
from lakehouse_assets.archive.exchanges import EXCHANGES
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.loopback import exclude_from_proxies
from lakehouse_assets_tests.world import World

# Machines are shared, so examples may be slow; CI runs the same examples every time.
_EXAMPLES = {"usual": 30, "thorough": 500}
for _name, _examples in _EXAMPLES.items():
    hypothesis.settings.register_profile(
        _name,
        max_examples=_examples,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
        derandomize="CI" in os.environ,
    )
hypothesis.settings.load_profile("usual")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--thorough",
        action="store_true",
        help="as before a release: more examples and kills",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("thorough"):
        hypothesis.settings.load_profile("thorough")


# The servers of the tests are on this machine, so a proxy must not be used for them.
exclude_from_proxies()

# Without their bytecode, pytest would rewrite each test module for each worker, and each process that a test starts
# would compile all that it imports: 9 and 5 s of processor time.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

CERTIFICATES = {name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ}
"""Where this machine has the authorities that it trusts, for tests that reach a package registry."""


@pytest.fixture(scope="session", autouse=True)
def _one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The tests' stores speak HTTP, but each client of a bucket and each Delta table that is opened would read all
    authorities of the machine: 6 ms, thousands of times."""
    text = Path(certifi.where()).read_text(encoding="utf-8")
    first, end, _ = text[text.index("-----BEGIN") :].partition("-----END CERTIFICATE-----\n")
    file = tmp_path_factory.mktemp("certificates") / "one.pem"
    file.write_text(first + end, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SSL_CERT_DIR", raising=False)
        patch.setenv("SSL_CERT_FILE", str(file))
        yield


LONG = (
    "deploy/test_postgres",
    "browser/test_ui",
    "cli/up/test_run",
    "orchestration/archives/test_backfill",
    "orchestration/tables/test_every_publication",
    "cli/demo/test_run",
    "deploy/test_image",
    "orchestration/following/test_tables",
    "sync/movers/test_base",
    "faults/test_faults",
    "faults/test_killed",
    "faults/test_faults_of_tools",
    "faults/test_killed_replacing",
    "orchestration/discovery/test_days_of_publishing",
    "tables/test_lineage_check",
    "sync/movers/test_late_writes",
    "deploy/test_checkov",
    "orchestration/discovery/test_rescan",
    "orchestration/discovery/test_sensors",
    "tables/write/test_build",
    "orchestration/tables/test_real_lines",
    "observability/test_dashboards",
)
"""Files that take more than half a minute, the longest first. If one started last, the other workers would idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(root).with_suffix("").as_posix()
        return LONG.index(name) if name in LONG else len(LONG)

    items.sort(key=place)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests do not read the settings or credentials of the user who runs them."""
    for name in os.environ:
        if name.startswith(("LAKEHOUSE_", "AWS_", "DAGSTER_", "OTEL_")) or name.lower() in TOKEN_VARIABLES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def store() -> Iterator[EmbeddedStore]:
    """One SeaweedFS per test worker, ended with it."""
    with EmbeddedStore(source_buckets=[exchange.bucket for exchange in EXCHANGES.values()]) as running:
        yield running


@pytest.fixture
def world(store: EmbeddedStore) -> World:
    """A share of the store for one test: its own symbols in the source, its own prefix in the lake."""
    return World(store)
