"""Binance metrics: whether times are beginnings or ends follows from the file, or else from its date."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

import polars as pl
import pytest

from lakehouse_assets.tables.read.archives import ArchiveRows, read_archive
from lakehouse_assets.tables.read.bulk import ArchiveFile, read_archives
from lakehouse_assets.tables.schema import schema_of
from lakehouse_assets.tables.schemas.binance_metrics import STEP, UM_CHANGED, ends_of_steps
from lakehouse_assets_tests.tables.archives import zipped

BEFORE, CHANGED, LATER = (datetime(2026, month, day, tzinfo=UTC) for month, day in ((6, 24), (6, 25), (8, 8)))
BEGINS, ENDS = range(288), range(1, 289)
of_um, of_cm = (partial(ends_of_steps, changed=changed) for changed in (UM_CHANGED, None))


def labels(day: datetime, steps: range | list[int], late: timedelta = timedelta(0)) -> pl.DataFrame:
    times = [day + STEP * step + late for step in steps]
    return pl.DataFrame({"time": times}, schema={"time": pl.Datetime("us", "UTC")})


@pytest.mark.parametrize("day", [BEFORE, CHANGED, LATER])
@pytest.mark.parametrize("late", [timedelta(0), timedelta(seconds=3)])
def test_the_midnights_in_a_file_decide_on_any_day(day: datetime, late: timedelta):
    ends = labels(day, ENDS, late)
    assert of_um(labels(day, BEGINS, late)).equals(ends)
    assert of_um(ends).equals(ends)


@pytest.mark.parametrize("steps", [range(1, 288), range(100, 144), [7]])
def test_the_date_decides_if_a_file_has_neither_midnight(steps: range | list[int]):
    assert of_um(labels(BEFORE, steps)).equals(labels(BEFORE, steps))
    for day in (CHANGED, LATER):
        assert of_um(labels(day, steps)).equals(labels(day, steps, STEP))


@pytest.mark.parametrize("day", [BEFORE, CHANGED, LATER])
@pytest.mark.parametrize("steps", [range(1, 288), range(100, 144), [0], [7]])
def test_cm_files_have_beginnings_on_any_day(day: datetime, steps: range | list[int]):
    assert of_cm(labels(day, steps)).equals(labels(day, steps, STEP))


@pytest.mark.parametrize("day", [BEFORE, CHANGED, LATER])
def test_no_time_occurs_twice_when_the_convention_changes(day: datetime):
    files = [labels(day + timedelta(days=number), steps) for number, steps in enumerate((ENDS, BEGINS, ENDS, BEGINS))]
    times = pl.concat(of_um(file) for file in files)["time"]
    assert times.is_unique().all()
    assert times.sort().diff().drop_nulls().unique().to_list() == [STEP]


def test_time_is_never_before_the_published_time():
    for day in (BEFORE, CHANGED):
        for steps in (BEGINS, ENDS, range(3, 9)):
            raw = labels(day, steps)
            assert (of_um(raw)["time"] >= raw["time"]).all()
    assert of_um(labels(LATER, [])).is_empty()


@pytest.mark.parametrize("market", ["um", "cm"])
def test_files_that_are_read_together_may_have_different_conventions(market: str):
    schema = schema_of("binance", market, "metrics")
    header = ",".join(schema.file_columns)
    files = []
    for day, steps in ((BEFORE, ENDS), (CHANGED, BEGINS)):
        lines = [f"{day + STEP * step:%Y-%m-%d %H:%M:%S},X,1,1,1,1,1,1" for step in steps]
        files.append(ArchiveFile(f"{day:%d}.zip", zipped("\n".join([header, *lines]) + "\n"), "X", None))
    together = [rows for _, rows in read_archives(files, schema=schema)]
    for file, rows, day in zip(files, together, (BEFORE, CHANGED), strict=True):
        assert isinstance(rows, ArchiveRows)
        alone = read_archive(file.data, schema=schema, name=file.name, symbol="X")
        assert rows.frame.equals(alone.frame)
        assert (rows.first_time, rows.last_time) == (day + STEP, day + timedelta(days=1))
        assert (alone.first_time, alone.last_time) == (rows.first_time, rows.last_time)
    assert together[1].frame["create_time"].min() == CHANGED
