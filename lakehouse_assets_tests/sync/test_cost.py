"""The estimated cost of a sync, and the cost limits that stop it before it copies."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.settings import SpendingSettings
from lakehouse_assets.sync.cost import CostLimit, CostLimitError, Estimate, Prices, estimate
from lakehouse_assets.sync.engine import Engine
from lakehouse_assets.units import GB
from lakehouse_assets_tests.world import World, days, scope

TOKYO = Bucket(name="source", region="ap-northeast-1", anonymous=True)


def test_an_estimate_has_the_cost_of_requests_and_transfer_and_of_storage_per_month() -> None:
    estimated = estimate(Prices(), objects=50, files=100, size=10 * GB, listing_requests=450, across_regions=True)
    assert estimated.requests == 1_000
    assert estimated.transfer_dollars == pytest.approx(0.90)
    assert estimated.dollars == pytest.approx(0.005 + 0.90)
    assert estimated.storage_dollars_per_month == pytest.approx(0.23)
    assert str(estimated) == (
        "50 objects, 10,000,000,000 bytes, 1,000 requests, about 0.9050 dollars (at most 0.9000 of them for "
        "transfer between regions), then 0.2300 a month for storage"
    )


@pytest.mark.parametrize(
    ("lake", "pays"),
    [
        (Bucket(name="lake", region="us-east-1"), True),
        (Bucket(name="lake"), True),  # us-east-1
        (Bucket(name="lake", region="ap-northeast-1"), False),
        (Bucket(name="lake", region="us-east-1", endpoint_url="https://minio.example"), False),
    ],
)
def test_transfer_is_charged_between_two_regions_of_aws(lake: Bucket, pays: bool) -> None:
    counts = SimpleNamespace(objects=1, sidecars=1, bytes=GB)
    plan = SimpleNamespace(summary=lambda: counts, listing_requests=1)
    assert (Engine(TOKYO, Lake(lake)).estimate(plan).transfer_dollars > 0) is pays


def test_a_plan_is_estimated_and_a_sync_approves_the_estimate_before_it_copies(world: World) -> None:
    entry = world.entry()
    world.publish(["BTCUSDT", "ETHUSDT"], days("2024-01-01", "2024-01-03"))
    requested = scope(entry, "2024-01-01", "2024-01-03")
    engine = world.engine()
    planned = engine.estimate(engine.plan(requested))
    assert (planned.objects, planned.requests) == (6, 12 + 2 * engine.plan(requested).listing_requests)

    def refuse(estimated: Estimate) -> None:
        assert estimated == planned
        raise CostLimitError("too much")

    with pytest.raises(CostLimitError):
        engine.sync(requested, approve=refuse)
    assert world.lake_files() == {}
    engine.sync(requested)
    assert replace(engine.estimate(engine.plan(requested)), requests=0, dollars=0) == Estimate(
        objects=0, bytes=0, requests=0, dollars=0, transfer_dollars=0, storage_dollars_per_month=0
    )


@pytest.mark.parametrize(
    ("dollars", "size", "refused"),
    [(1.0, 100, None), (1.01, 100, "MAX_DOLLARS=1"), (1.0, 101, "MAX_BYTES=100")],
)
def test_a_cost_limit_refuses_higher_costs_and_names_its_variable_and_the_override(
    monkeypatch: pytest.MonkeyPatch, dollars: float, size: int, refused: str | None
) -> None:
    monkeypatch.setenv("LAKEHOUSE_SPENDING_MAX_DOLLARS", "1")
    monkeypatch.setenv("LAKEHOUSE_SPENDING_MAX_BYTES", "100")
    limit = SpendingSettings().per_run
    if refused is None:
        limit.check(dollars, size, what="This run is estimated at", override="--allow")
        return
    with pytest.raises(
        CostLimitError, match=f"above LAKEHOUSE_SPENDING_{refused}. Nothing was copied.*--allow"
    ) as refusal:
        limit.check(dollars, size, what="This run is estimated at", override="--allow")
    assert str(refusal.value).isprintable()


def test_without_settings_there_is_no_cost_limit_and_list_prices_apply() -> None:
    settings = SpendingSettings()
    assert (bool(settings.per_run), bool(settings.per_day)) == (False, False)
    settings.per_run.check(1e9, 10**18, what="", override="")
    assert settings.prices == Prices()


def test_a_cost_limit_of_zero_is_reached_by_zero_cost() -> None:
    assert CostLimit(0, None, "").is_reached(0, 0)
    assert not CostLimit(1, 10, "").is_reached(0.99, 9)
    assert CostLimit(1, 10, "").is_reached(0, 10)
