"""`lakehouse plan` and `lakehouse sync` against the embedded store."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
from pathlib import Path

import obstore

from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets_tests.cli.conftest import LAKEHOUSE, RunLakehouse, clean_environment

DATASET = "binance/um/klines/daily"


def in_lake(store: EmbeddedStore, prefix: str) -> dict[str, object]:
    listed = obstore.list(store.lake().object_store(), prefix=prefix).collect()
    return {meta["path"]: meta["last_modified"] for meta in listed}


def test_plan_counts_missing_objects_and_writes_nothing(
    run_lakehouse: RunLakehouse, store: EmbeddedStore, environment: dict[str, str], tmp_path: Path
) -> None:
    command = ("plan", DATASET, "--from", "2024-01-02", "--to", "2024-01-04")
    result = run_lakehouse(*command, "--json", env=environment)
    assert result.returncode == 0, result.stderr
    plan = json.loads(result.stdout)
    assert [(row["period"], row["objects"], row["sidecars"], row["missing"]) for row in plan["periods"]] == [
        ("2024-01-02", 4, 4, 4),
        ("2024-01-03", 4, 4, 4),
        ("2024-01-04", 0, 0, 0),
    ]
    assert plan["total"]["bytes"] == sum(row["bytes"] for row in plan["periods"]) > 0
    assert plan["total"]["dollars"] > 0
    shown = run_lakehouse(*command, env=environment)
    assert "Nothing was written." in shown.stdout
    assert in_lake(store, f"cli/{tmp_path.name}") == {}


def test_sync_copies_and_a_second_one_copies_nothing(
    run_process: RunLakehouse, store: EmbeddedStore, environment: dict[str, str], tmp_path: Path
) -> None:
    command = ("sync", DATASET, "--from", "2024-01-01", "--to", "2024-01-03", "--mode", "direct")
    first = run_process(*command, env=environment)
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""  # no progress bar without a terminal
    assert [line.split("│")[1:5] for line in first.stdout.splitlines() if "2024-01-0" in line] == [
        [f" {day} ", " complete ", "     4/4 ", "      4 "] for day in ("2024-01-01", "2024-01-02", "2024-01-03")
    ]
    mirrored = in_lake(store, f"cli/{tmp_path.name}/archive")
    assert len(mirrored) == 24
    second = json.loads(run_process(*command, "--json", env=environment).stdout)
    assert second["ok"] is True
    assert second["total"]["copied"] == second["total"]["sidecars_copied"] == 0
    assert second["total"]["present"] == 12
    assert in_lake(store, f"cli/{tmp_path.name}/archive") == mirrored
    plan = json.loads(run_process("plan", *command[1:6], "--json", env=environment).stdout)
    assert (plan["total"]["objects"], plan["total"]["present"]) == (0, 12)


def test_verbose_logs_batches_and_commits(run_lakehouse: RunLakehouse, environment: dict[str, str]) -> None:
    command = ("sync", DATASET, "--from", "2024-01-01", "--to", "2024-01-02")
    result = run_lakehouse("--verbose", *command, env=environment)
    assert result.returncode == 0, result.stderr
    lines = result.stderr.splitlines()
    assert [line for line in lines if f"INFO {DATASET}: " in line and "files copied by direct, 0 failed" in line]
    assert [line for line in lines if "2024-01-01 to 2024-01-02: commit, " in line]
    assert len(lines) < 20, "no line per object"
    assert run_lakehouse(*command, env=environment).stderr == ""


def test_a_partial_sync_copies_only_the_given_symbols_and_intervals(
    run_lakehouse: RunLakehouse, store: EmbeddedStore, environment: dict[str, str], tmp_path: Path
) -> None:
    period = ("--from", "2024-01-01", "--to", "2024-01-01")
    result = run_lakehouse("sync", DATASET, *period, "--symbols", "CLIAUSDT", "--intervals", "1h,1m", env=environment)
    assert result.returncode == 0, result.stderr
    assert "partial" in result.stdout
    assert len(in_lake(store, f"cli/{tmp_path.name}/archive")) == 4
    plan = run_lakehouse("plan", DATASET, *period, "--symbols", "CLIBUSDT", "--json", env=environment)
    assert json.loads(plan.stdout)["total"]["objects"] == 2


def test_a_period_that_is_not_published_is_reported_and_is_not_a_failure(
    run_lakehouse: RunLakehouse, environment: dict[str, str]
) -> None:
    result = run_lakehouse("sync", DATASET, "--from", "2024-01-03", "--to", "2024-01-05", env=environment)
    assert result.returncode == 0, result.stderr
    assert "Not published yet: 2 of 3 periods (2024-01-04 to 2024-01-05)." in result.stdout


def test_a_month_given_for_days_means_its_days(run_lakehouse: RunLakehouse, environment: dict[str, str]) -> None:
    result = run_lakehouse("plan", DATASET, "--from", "2024-02", "--to", "2024-02", "--json", env=environment)
    periods = [row["period"] for row in json.loads(result.stdout)["periods"]]
    assert (periods[0], periods[-1], len(periods)) == ("2024-02-01", "2024-02-29", 29)


def test_an_unwritable_lake_is_named_with_status_1(
    run_lakehouse: RunLakehouse, store: EmbeddedStore, environment: dict[str, str]
) -> None:
    wrong = environment | {"LAKEHOUSE_LAKE_BUCKET": "no-such-bucket"}
    result = run_lakehouse("sync", DATASET, "--from", "2024-01-01", "--to", "2024-01-01", env=wrong)
    assert result.returncode == 1
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert "no-such-bucket" in line


def test_a_progress_bar_is_shown_on_a_terminal_only(environment: dict[str, str], tmp_path: Path) -> None:
    controller, terminal = pty.openpty()
    result = subprocess.run(
        [str(LAKEHOUSE), "sync", DATASET, "--from", "2024-01-01", "--to", "2024-01-01", "--json"],
        env=clean_environment(tmp_path, environment | {"TERM": "xterm", "COLUMNS": "120"}),
        stdout=subprocess.PIPE,
        stderr=terminal,
        check=False,
        timeout=60,
    )

    os.close(terminal)
    shown = _all_of(controller).decode()
    os.close(controller)
    assert result.returncode == 0, shown
    assert "listing" in shown
    assert json.loads(result.stdout)["total"]["copied"] == 4


def _all_of(terminal: int) -> bytes:
    """What was written to a terminal whose other end is closed. One read returns at most 4,095 bytes of it."""
    text = b""
    # At the end, Linux raises EIO, and others return nothing.
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 1 << 16):
            text += part
    return text
