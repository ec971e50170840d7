"""`lakehouse demo` works offline, checks its claims, and leaves nothing behind."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import time
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from lakehouse_assets.archive.period import Cadence, Period
from lakehouse_assets.cli.demo import changes, claims, run
from lakehouse_assets.cli.demo.archive import read_archive
from lakehouse_assets.cli.demo.runs import ranges
from lakehouse_assets.embedded.samples.archive import sample_files
from lakehouse_assets.errors import InputError
from lakehouse_assets_tests.cli.conftest import (
    LAKEHOUSE,
    SAMPLES,
    RunLakehouse,
    clean_environment,
    processes_naming,
)

KEY = "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-{}.zip"


def by_dataset(runs: list[dict]) -> dict[str, dict]:
    return {run["dataset"]: run for run in runs}


def test_a_week_is_backfilled_and_only_its_changes_are_copied_again(run_process: RunLakehouse, tmp_path: Path) -> None:
    # Variables of the user's shell must not matter.
    result = run_process("demo", "--json", env={"AWS_PROFILE": "no-such-profile", "HTTP_PROXY": "http://127.0.0.1:9"})
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    document = json.loads(result.stdout)
    first, second = by_dataset(document["first_backfill"]), by_dataset(document["second_backfill"])
    assert {name: (run["partitions"], run["complete"], run["objects"]) for name, run in first.items()} == {
        "binance/spot/klines/daily": (7, 7, 28),
        "binance/um/klines/daily": (7, 7, 28),
        "binance/cm/aggTrades/daily": (7, 7, 14),
    }
    assert all(run["modes"] == {"direct": run["objects"]} for run in first.values())
    assert all(run["runs"] == 1 and run["failures"] == [] for run in (*first.values(), *second.values()))
    assert {name: run["objects_copied"] for name, run in second.items()} == {
        "binance/spot/klines/daily": 4,
        "binance/um/klines/daily": 1,
        "binance/cm/aggTrades/daily": 0,
    }
    assert second["binance/spot/klines/daily"]["partitions"] == 8
    assert second["binance/cm/aggTrades/daily"]["objects_vanished"] == 1
    assert len(document["claims"]) == 9
    assert all(claim["holds"] for claim in document["claims"])
    assert document["ok"] is True
    # Nothing is left: no file in the home folder, no temporary file, no process.
    assert list((tmp_path / "user_home").iterdir()) == []
    assert list((tmp_path / "tmp").iterdir()) == []
    assert processes_naming(str(tmp_path)) == set()


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Path, int]:
    """A folder laid out as an archive, and the number of its objects: the exchange's own files if available."""
    root = tmp_path / "tree"
    if SAMPLES.is_dir():
        shutil.copytree(SAMPLES, root)
        return root, 5
    days = (date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 9))
    for day in days:
        for file in sample_files("spot", "klines", "daily", symbols=["BTCUSDT"], intervals=["1h"], first=day, last=day):
            path = root / file.key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.body)
    return root, len(days)


def test_a_given_folder_is_used_as_the_archive_and_shown_in_the_output(
    run_process: RunLakehouse, tree: tuple[Path, int]
) -> None:
    root, objects = tree
    (root / "README.txt").write_text("not an archive object")
    result = run_process("demo", "--samples", str(root))
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{2 * objects + 1} files of {root}")
    assert lines[1].startswith("1 of them are not archive objects")
    [spot, spot_again] = [line for line in lines if "binance/spot/klines/daily" in line]
    cells = [cell.strip() for cell in spot.strip("│").split("│")]
    # Two adjacent days and a later one, without the years between.
    assert (cells[1], cells[2], cells[4], cells[6]) == ("3", "3", "direct", "3/3")
    assert "appeared (1 objects)" in spot_again
    assert sum(line.startswith("true ") for line in lines) == 9


def test_a_false_claim_fails_the_demo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = claims._list

    def list_as_if_all_were_copied_again(store: object, prefix: str) -> dict:
        listed = real(store, prefix)
        return {key: (entry, time.monotonic()) for key, entry in listed.items()} if is_real.pop() else listed

    is_real = [True, True, False, False]  # real times before the second run, changed ones after it
    monkeypatch.setattr(run, "first_claims", lambda *_: [])
    monkeypatch.setattr(claims, "_list", list_as_if_all_were_copied_again)
    monkeypatch.setattr(run, "keep_to_loopback", lambda: None)
    assert run.run_demo(samples=None, days=1, as_json=True) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    assert "Exactly the new and the rewritten files were copied." in [
        claim["claim"] for claim in document["claims"] if not claim["holds"]
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_demo_and_everything_it_started(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [str(LAKEHOUSE), "demo"],
        env=clean_environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    dagster_home = tmp_path / "tmp"
    while not list(dagster_home.glob("lakehouse-demo-*/history/runs/*.db")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    output, error = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert output == ""
    assert "Traceback" not in error
    assert processes_naming(str(tmp_path)) == set()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_files_of_periods_that_have_not_ended_are_not_partitions() -> None:
    today = datetime.now(UTC).date()
    sizes = {KEY.format("2024-01-01"): 1, KEY.format(today): 1, KEY.format("2016-01-01"): 1}
    published = read_archive(sizes, "a tree")
    assert [str(period) for period in published.datasets[0].periods] == ["2024-01-01"]
    assert published.others == 2


def test_a_tree_without_archive_objects_is_refused() -> None:
    with pytest.raises(InputError, match=r"No file in here is an archive object; lay them out like data/"):
        read_archive({"README.txt": 1}, "here")


def test_ranges_break_at_gaps_and_at_the_longest_run() -> None:
    days = [Period(Cadence.DAILY, date(2024, 1, day)) for day in (1, 2, 3, 4, 9)]
    windows = [(str(first), str(last)) for first, last in ranges(days, 3)]
    assert windows == [("2024-01-01", "2024-01-03"), ("2024-01-04", "2024-01-04"), ("2024-01-09", "2024-01-09")]


def test_a_rewritten_file_keeps_its_size_and_gets_a_matching_sidecar() -> None:
    body = b"PK\x03\x04 a zip of some length"
    name = KEY.format("2024-01-01")
    checksum = f"{hashlib.sha256(body).hexdigest()}  BTCUSDT-1m-2024-01-01.zip".encode()
    after = changes._rewritten(name, {name: body, f"{name}.CHECKSUM": checksum})
    assert after[name] != body
    assert len(after[name]) == len(body)
    assert after[f"{name}.CHECKSUM"] == checksum.replace(
        hashlib.sha256(body).hexdigest().encode(), hashlib.sha256(after[name]).hexdigest().encode()
    )
