"""`lakehouse incidents` against the embedded store: list, show, acknowledge and resolve."""

from __future__ import annotations

import json
import uuid

import pytest

from lakehouse_assets.cli.incidents import run_list, run_show
from lakehouse_assets.cli.main import app
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.lake.incident_store import LakeIncidentStore
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.observability.incidents import correlation
from lakehouse_assets.observability.incidents.causes import Cause
from lakehouse_assets.observability.incidents.notification import Notifier
from lakehouse_assets.observability.incidents.service import IncidentService
from lakehouse_assets_tests.cli.conftest import RunLakehouse
from lakehouse_assets_tests.observability.signals import KLINES, at, signal

ID = "binance-transfer-fails-20240305-1"


@pytest.fixture
def lake(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A lake with one open incident, configured by environment variables."""
    lake = Lake(store.lake(), f"cli-{uuid.uuid4().hex}")
    credentials = lake.bucket.credentials
    monkeypatch.setenv("LAKEHOUSE_LAKE_BUCKET", lake.bucket.name)
    monkeypatch.setenv("LAKEHOUSE_LAKE_PREFIX", lake.prefix)
    monkeypatch.setenv("LAKEHOUSE_LAKE_ENDPOINT_URL", lake.bucket.endpoint_url)
    monkeypatch.setenv("LAKEHOUSE_LAKE_ACCESS_KEY_ID", credentials.access_key_id)
    monkeypatch.setenv("LAKEHOUSE_LAKE_SECRET_ACCESS_KEY", credentials.secret_access_key)
    service = IncidentService(LakeIncidentStore(lake, None), Notifier())
    service.handle([signal(Cause.TRANSFER_FAILS, text="3 of 9 [objects] failed", run_id="abc")], at(2))
    return lake


@pytest.mark.usefixtures("lake")
def test_an_incident_is_listed_shown_acknowledged_and_resolved(capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            app(["incidents", *arguments])
        printed = capsys.readouterr()
        return ended.value.code, printed.out + printed.err

    status, listed = run("list", "--json")
    [incident] = json.loads(listed)["incidents"]
    assert (status, incident["id"], incident["state"], incident["firing"]) == (1, ID, "open", 1)
    shown = run("show", ID)[1]
    assert "binance: objects cannot be copied into the lake" in shown
    assert KLINES in shown
    assert "3 of 9 [objects] failed" in shown
    assert run("ack", ID, "--by", "anna", "--note", "on it") == (0, f"{ID} is acknowledged by anna.\n")
    assert "acknowledged" in run("list")[1]
    status, document = run("resolve", ID, "--by", "anna", "--note", "bucket policy", "--json")
    assert json.loads(document)["resolved"]["text"] == "bucket policy"
    assert run("list") == (0, "No incident is open.\n")
    assert ID in run("list", "--all")[1]
    minute = json.loads(document)["resolved"]["at"][:16].replace("T", " ")
    assert run("ack", ID) == (2, f"Incident {ID} was already resolved at {minute} UTC.\n")
    assert run("show", "x") == (2, "There is no incident 'x'. See: lakehouse incidents list --all\n")


def test_periods_beyond_the_limit_of_signals_are_counted_and_listed(
    lake: Lake, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correlation, "MAX_MEMBERS", 2)
    periods = [f"2024-02-{day:02}" for day in range(1, 10)]
    signals = [signal(Cause.TRANSFER_FAILS, 3, period=period) for period in periods]
    IncidentService(LakeIncidentStore(lake, None), Notifier()).handle(signals, at(4))
    assert run_list(every=False, as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["incidents"][0]["firing"] == 10
    assert run_show(ID, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["periods_beyond"] == {KLINES: periods[1:]}
    assert run_show(ID, as_json=False) == 0
    assert "8 more, 2024-02-02 to 2024-02-09" in " ".join(capsys.readouterr().out.split())


def test_a_missing_lake_is_reported(run_lakehouse: RunLakehouse) -> None:
    done = run_lakehouse("incidents", "list")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("No lake is configured: set LAKEHOUSE_LAKE_BUCKET")
