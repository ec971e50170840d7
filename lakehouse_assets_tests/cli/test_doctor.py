"""`lakehouse doctor` reports what works and what does not, and shows no secret."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.cli.doctor import MASK, run_doctor
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.sync.movers.diagnostics import Health, _clock
from lakehouse_assets_tests.cli.conftest import RunLakehouse
from lakehouse_assets_tests.cli.test_plan_and_sync import in_lake
from lakehouse_assets_tests.faults.proxy import Proxy, Refusal, RefusesHeader, Rule

Examine = Callable[..., tuple[int, dict[str, dict[str, str]], str]]


@pytest.fixture
def examine(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Examine:
    """Exit status, findings by subject, and the output. Variables given as None are unset."""

    def run(**variables: str | None) -> tuple[int, dict[str, dict[str, str]], str]:
        for name, value in (environment | variables).items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        status = run_doctor(None, as_json=True)
        shown = capsys.readouterr().out
        document = json.loads(shown)
        assert document["ok"] == (status == 0)
        return status, {finding["about"]: finding for finding in document["findings"]}, shown

    return run


def test_a_working_set_up_has_no_errors_and_only_the_doctor_folder_is_written(
    run_lakehouse: RunLakehouse, store: EmbeddedStore, environment: dict[str, str]
) -> None:
    result = run_lakehouse("doctor", env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    for line in ("lake: write", "lake: conditional writes", "binance: direct", "binance: relay", "binance: staged"):
        [shown] = [row for row in result.stdout.splitlines() if f" {line} " in row]
        assert " ok " in shown
    assert environment["LAKEHOUSE_LAKE_SECRET_ACCESS_KEY"] not in result.stdout
    assert "0 errors" in result.stdout
    prefix = environment["LAKEHOUSE_LAKE_PREFIX"]
    assert {key.split("/")[2] for key in in_lake(store, prefix)} == {"_doctor"}


def test_the_endpoint_in_force_and_ignored_endpoint_variables_are_shown(examine: Examine, store: EmbeddedStore) -> None:
    status, findings, _ = examine(AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_ENDPOINT_URL_S3="http://127.0.0.1:9")
    assert status == 0
    assert f" at {store.endpoint_url}, region us-east-1" in findings["lake"]["found"]
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        assert (
            findings[f"settings: {name}"]["found"]
            == "is set but ignored: every client is given its endpoint explicitly"
        )


def test_an_unrecognized_hostile_key_is_not_used_for_the_copy_tests(examine: Examine, store: EmbeddedStore) -> None:
    admin = store.admin_bucket("data.binance.vision").boto3_client()
    where = {"Bucket": "data.binance.vision", "Key": "data/futures/um/daily/klines/AAUSDT/1m/odd\nname.zip"}
    admin.put_object(**where, Body=b"")
    try:
        _, findings, _ = examine()
    finally:
        admin.delete_object(**where)
    for mode in ("direct", "relay", "staged"):
        assert findings[f"binance: {mode}"]["health"] == "ok"


def test_settings_are_shown_with_their_source_and_secrets_masked(examine: Examine, environment: dict[str, str]) -> None:
    _, findings, shown = examine(LAKEHOUSE_INCIDENTS_URLS="json://u:planted-4711@example.org/")
    settings = {setting["name"]: setting for setting in json.loads(shown)["settings"]}
    assert settings["LAKEHOUSE_LAKE_BUCKET"] == {
        "name": "LAKEHOUSE_LAKE_BUCKET",
        "value": environment["LAKEHOUSE_LAKE_BUCKET"],
        "source": "environment",
    }
    assert (settings["LAKEHOUSE_SYNC_WORKERS"]["value"], settings["LAKEHOUSE_SYNC_WORKERS"]["source"]) == (
        "256",
        "default",
    )
    assert settings["LAKEHOUSE_LAKE_SECRET_ACCESS_KEY"]["value"] == MASK
    assert settings["LAKEHOUSE_INCIDENTS_URLS"]["value"] == MASK
    for secret in (environment["LAKEHOUSE_LAKE_SECRET_ACCESS_KEY"], "planted-4711"):
        assert secret not in shown
    assert findings["matrix"]["found"].startswith("2 datasets")


def test_permission_to_delete_is_a_warning(examine: Examine, store: EmbeddedStore) -> None:
    assert examine()[1]["lake: delete"]["health"] == "ok"
    status, findings, _ = examine(
        LAKEHOUSE_LAKE_ACCESS_KEY_ID=store.admin.access_key_id,
        LAKEHOUSE_LAKE_SECRET_ACCESS_KEY=store.admin.secret_access_key,
    )
    assert (status, findings["lake: delete"]["health"]) == (0, "warning")


@pytest.mark.parametrize(
    ("variables", "about", "found", "advice"),
    [
        ({"LAKEHOUSE_LAKE_BUCKET": None}, "lake", "No lake is configured", ""),
        ({"LAKEHOUSE_LAKE_SECRET_ACCESS_KEY": "wrong"}, "lake: list", "SignatureDoesNotMatch", "check the secret key"),
        ({"LAKEHOUSE_LAKE_BUCKET": "nowhere"}, "lake: list", "", "check"),
        ({"LAKEHOUSE_LAKE_ENDPOINT_URL": "http://127.0.0.1:9"}, "lake: list", "Unreachable", "check the endpoint"),
        ({"LAKEHOUSE_LAKE_ENDPOINT_URL": "http://192.0.2.1"}, "lake", "plain HTTP", ""),
        ({"LAKEHOUSE_SOURCE_ENDPOINT_URL": "http://127.0.0.1:9"}, "binance: list", "Unreachable", "check the endpoint"),
        ({"LAKEHOUSE_MATRIX": "/nowhere.yaml"}, "matrix", "/nowhere.yaml", ""),
        ({"LAKEHOUSE_SYNC_WORKERS": "many"}, "settings", "LAKEHOUSE_SYNC_WORKERS", "correct"),
        ({"DAGSTER_HOME": "/nowhere"}, "Dagster", "/nowhere", ""),
    ],
)
def test_a_wrong_setting_is_an_error_with_advice(
    examine: Examine, variables: dict[str, str | None], about: str, found: str, advice: str
) -> None:
    status, findings, _ = examine(**variables)
    assert status == 1
    assert findings[about]["health"] == "error"
    assert found in findings[about]["found"]
    assert advice in findings[about]["advice"]


def test_a_misspelled_setting_is_reported_with_the_closest_name(examine: Examine) -> None:
    status, findings, _ = examine(LAKEHOUSE_LAKE_BUKET="lake")
    assert status == 0
    assert findings["settings: LAKEHOUSE_LAKE_BUKET"]["advice"] == "did you mean LAKEHOUSE_LAKE_BUCKET?"


def test_a_refused_copy_mode_is_reported_with_the_reason(examine: Examine, store: EmbeddedStore) -> None:
    refuses = Rule(Refusal(403, "AccessDenied"), ("CopyObject",))
    with Proxy(store.endpoint_url, refuses).running() as proxy:
        status, findings, _ = examine(
            LAKEHOUSE_LAKE_ENDPOINT_URL=proxy.endpoint_url, LAKEHOUSE_SOURCE_ENDPOINT_URL=proxy.endpoint_url
        )
    assert status == 0
    assert (findings["binance: direct"]["health"], findings["binance: relay"]["health"]) == ("note", "ok")
    assert "AccessDenied" in findings["binance: direct"]["found"]


def test_a_store_that_refuses_conditional_writes_is_an_error_with_advice(
    examine: Examine, store: EmbeddedStore
) -> None:
    with Proxy(store.endpoint_url, Rule(RefusesHeader("if-none-match"), ("PutObject",))).running() as proxy:
        status, findings, _ = examine(LAKEHOUSE_LAKE_ENDPOINT_URL=proxy.endpoint_url)
    assert (status, findings["lake: conditional writes"]["health"]) == (1, "error")
    assert "If-None-Match" in findings["lake: conditional writes"]["advice"]


@pytest.mark.parametrize(
    ("off", "health"),
    [(timedelta(seconds=5), Health.OK), (timedelta(minutes=3), Health.WARNING), (timedelta(minutes=20), Health.ERROR)],
)
def test_a_wrong_clock_is_reported(off: timedelta, health: Health) -> None:
    date = format_datetime(datetime.now(UTC) - off, usegmt=True)
    assert _clock({"ResponseMetadata": {"HTTPHeaders": {"date": date}}}).health is health


def test_no_secret_of_the_default_chain_is_shown(
    examine: Examine, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", environment["LAKEHOUSE_LAKE_ACCESS_KEY_ID"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", environment["LAKEHOUSE_LAKE_SECRET_ACCESS_KEY"])
    status, findings, shown = examine(LAKEHOUSE_LAKE_ACCESS_KEY_ID=None, LAKEHOUSE_LAKE_SECRET_ACCESS_KEY=None)
    assert status == 0
    assert findings["lake"]["found"].endswith("credentials from the AWS default chain: env")
    assert environment["LAKEHOUSE_LAKE_SECRET_ACCESS_KEY"] not in shown
    assert Bucket(name="x").environment() == {}
