"""`lakehouse verify`, `adopt` and `rebuild-manifests` against the embedded store."""

from __future__ import annotations

import json

import obstore
import pytest
from typer.testing import CliRunner

from lakehouse_assets.cli import verify
from lakehouse_assets.cli.main import app
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets_tests.cli.conftest import RunLakehouse

DATASET = "binance/um/klines/daily"
RANGE = (DATASET, "--from", "2024-01-01", "--to", "2024-01-03")


def test_verify_reads_each_content_once_and_reports_problems(
    run_lakehouse: RunLakehouse, store: EmbeddedStore, environment: dict[str, str]
) -> None:
    assert run_lakehouse("sync", *RANGE, env=environment).returncode == 0
    first = json.loads(run_lakehouse("verify", *RANGE, "--json", env=environment).stdout)
    assert (first["ok"], first["objects_read"]) == (True, 12)
    assert first["states"]["2024-01-01"] == {"verified": 4}
    second = run_lakehouse("verify", *RANGE, env=environment)
    assert second.returncode == 0
    assert "0 objects read" in second.stdout

    lake = store.lake().object_store()
    [key, *_rest] = [
        meta["path"]
        for meta in obstore.list(lake, prefix=f"{environment['LAKEHOUSE_LAKE_PREFIX']}/archive").collect()
        if meta["path"].endswith(".zip")
    ]
    obstore.put(lake, key, b"no longer what was published")
    replaced = run_lakehouse("verify", *RANGE, "--force", env=environment)
    assert replaced.returncode == 1
    assert "it was replaced" in replaced.stdout


@pytest.mark.parametrize("option", ["--force", "--again"])
def test_force_reads_everything_also_under_its_former_name(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    calls: list[bool] = []

    def run_verify(_dataset: str, _first: str, _last: str, *, force: bool, as_json: bool) -> int:
        calls.append(force)
        return 0

    monkeypatch.setattr(verify, "run_verify", run_verify)
    for arguments in ([option], []):
        with pytest.raises(SystemExit):
            app(["verify", *RANGE, *arguments])
    assert calls == [True, False]
    help_text = CliRunner().invoke(app, ["verify", "--help"]).output
    assert "--force" in help_text
    assert "--again" not in help_text


def test_a_lost_manifest_is_rebuilt_and_a_mirror_adopted(
    run_lakehouse: RunLakehouse, store: EmbeddedStore, environment: dict[str, str]
) -> None:
    assert run_lakehouse("sync", *RANGE, env=environment).returncode == 0
    admin = store.admin_bucket(store.lake_bucket).object_store()
    manifest = f"{environment['LAKEHOUSE_LAKE_PREFIX']}/_manifest"
    for meta in obstore.list(admin, prefix=manifest).collect():
        obstore.delete(admin, meta["path"])
    assert "12 rows were added" in run_lakehouse("rebuild-manifests", DATASET, env=environment).stdout
    assert json.loads(run_lakehouse("rebuild-manifests", DATASET, "--json", env=environment).stdout) == {
        "dataset": DATASET,
        "rows_added": 0,
    }
    history = run_lakehouse("rebuild-manifests", "_syncs", "--json", env=environment)
    assert json.loads(history.stdout) == {"dataset": "_syncs", "rows_added": 0}
    adopted = json.loads(run_lakehouse("adopt", *RANGE, "--json", env=environment).stdout)
    assert (adopted["ok"], adopted["objects_read"]) == (True, 12)
    synced = json.loads(run_lakehouse("sync", *RANGE, "--json", env=environment).stdout)
    assert synced["total"]["copied"] == 0
