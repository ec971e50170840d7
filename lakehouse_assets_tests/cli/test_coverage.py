"""`lakehouse coverage` against the embedded store."""

from __future__ import annotations

import json
from pathlib import Path

from lakehouse_assets_tests.cli.conftest import RunLakehouse

DATASET = "binance/um/klines/daily"
RANGE = (DATASET, "--from", "2024-01-01", "--to", "2024-01-03")


def test_coverage_is_shown_by_month_by_symbol_and_as_a_page(
    run_lakehouse: RunLakehouse, environment: dict[str, str], tmp_path: Path
) -> None:
    nothing = run_lakehouse("coverage", DATASET, env=environment)
    assert (nothing.returncode, nothing.stdout) == (0, f"{DATASET} was never synced.\n")
    assert run_lakehouse("sync", *RANGE, env=environment).returncode == 0

    months = json.loads(run_lakehouse("coverage", "--json", env=environment).stdout)
    [month] = months[DATASET]
    assert (month["month"], month["periods_synced"], month["periods_complete"]) == ("2024-01", 3, 3)
    assert (month["expected"], month["present"], month["mismatch"]) == (12, 12, 0)
    table = run_lakehouse("coverage", env=environment).stdout
    assert [line for line in table.splitlines() if DATASET in line and "2024" in line and " 3/31 " in line]

    shown = run_lakehouse("coverage", DATASET, env=environment).stdout
    assert "2024-01-01 to 2024-01-03" in shown
    assert shown.splitlines()[1].rstrip().endswith("███")
    page = tmp_path / "coverage.html"
    written = run_lakehouse("coverage", DATASET, "--html", str(page), env=environment)
    assert written.stdout.startswith(f"Written: {page} (")
    assert f"Coverage of {DATASET}" in page.read_text()


def test_wrong_arguments_are_reported_in_one_line(
    run_lakehouse: RunLakehouse, environment: dict[str, str], tmp_path: Path
) -> None:
    for arguments, message in (
        (("--html", "x.html"), "need a dataset"),
        (("binance/um/klines/dayly",), "did you mean"),
        ((DATASET, "--symbol", "BTCUSDT"), "'BTCUSDT' was never synced in"),
        ((DATASET, "--html", str(tmp_path / "no" / "where.html")), "cannot be written"),
    ):
        done = run_lakehouse("coverage", *arguments, env=environment)
        assert done.returncode == 2, done
        assert done.stderr.count("\n") == 1
        assert message in done.stderr
