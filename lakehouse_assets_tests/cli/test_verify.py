"""`lakehouse verify`, `adopt` and `rebuild-manifests` against the embedded store."""

from __future__ import annotations

import json

import obstore

from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets_tests.cli.conftest import RunLakehouse

DATASET = "binance/um/klines/daily"
RANGE = (DATASET, "--from", "2024-01-01", "--to", "2024-01-03")


def test_verify_reads_each_content_once_and_tells_what_is_wrong(
    run_lakehouse: RunLakehouse, store: EmbeddedStore, environment: dict[str, str]
) -> None:
    assert run_lakehouse("sync", *RANGE, env=environment).returncode == 0
    first = json.loads(run_lakehouse("verify", *RANGE, "--json", env=environment).stdout)
    assert (first["ok"], first["objects_read"]) == (True, 12)
    assert first["states"]["2024-01-01"] == {"verified": 4}
    again = run_lakehouse("verify", *RANGE, env=environment)
    assert again.returncode == 0
    assert "0 objects read" in again.stdout

    lake = store.lake().object_store()
    [key, *_rest] = [
        meta["path"]
        for meta in obstore.list(lake, prefix=f"{environment['LAKEHOUSE_LAKE_PREFIX']}/archive").collect()
        if meta["path"].endswith(".zip")
    ]
    obstore.put(lake, key, b"no longer what was published")
    replaced = run_lakehouse("verify", *RANGE, "--again", env=environment)
    assert replaced.returncode == 1
    assert "it was replaced" in replaced.stdout


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
