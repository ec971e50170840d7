"""The embedded store: rights of each identity, data that survives, and processes that end."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from lakehouse_assets.embedded import seaweedfs
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.errors import EmbeddedStoreError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

SOURCE, LAKE = "data.binance.vision", "lake"
KEY = "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01-01.zip"


@pytest.fixture(scope="module")
def store() -> Iterator[EmbeddedStore]:
    with EmbeddedStore() as running:
        running.admin_bucket(SOURCE).boto3_client().put_object(Bucket=SOURCE, Key=KEY, Body=b"archive")
        yield running


@pytest.fixture
def anonymous(store: EmbeddedStore) -> S3Client:
    return store.source().boto3_client()


@pytest.fixture
def sync(store: EmbeddedStore) -> S3Client:
    return store.lake().boto3_client()


@pytest.fixture
def admin(store: EmbeddedStore) -> S3Client:
    return store.admin_bucket(LAKE).boto3_client()


@pytest.fixture
def maintenance(store: EmbeddedStore) -> S3Client:
    return replace(store.lake(), credentials=store.maintenance).boto3_client()


def refused(error: pytest.ExceptionInfo[ClientError]) -> bool:
    return error.value.response["Error"]["Code"] == "AccessDenied"


def is_running(pid: int) -> bool:
    """Whether a process does work; one that has ended but is not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ends(pid: int, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not is_running(pid):
            return True
        time.sleep(0.02)
    return False


def exists(client: S3Client, key: str) -> bool:
    return any(each["Key"] == key for each in client.list_objects_v2(Bucket=LAKE, Prefix=key).get("Contents", []))


def test_anyone_may_get_and_list_in_a_source(anonymous: S3Client) -> None:
    assert anonymous.get_object(Bucket=SOURCE, Key=KEY)["Body"].read() == b"archive"
    assert [each["Key"] for each in anonymous.list_objects_v2(Bucket=SOURCE)["Contents"]] == [KEY]


def test_both_clients_reach_a_bucket_with_a_dotted_name_path_style(store: EmbeddedStore) -> None:
    assert bytes(store.source().object_store().get(KEY).bytes()) == b"archive"


def test_an_anonymous_put_into_a_source_is_refused(anonymous: S3Client) -> None:
    with pytest.raises(ClientError) as error:
        anonymous.put_object(Bucket=SOURCE, Key="data/x", Body=b"")
    assert refused(error)


def test_an_anonymous_delete_in_a_source_is_refused(anonymous: S3Client) -> None:
    with pytest.raises(ClientError) as error:
        anonymous.delete_object(Bucket=SOURCE, Key=KEY)
    assert refused(error)


def test_anonymous_reads_of_the_lake_are_refused(anonymous: S3Client, sync: S3Client) -> None:
    sync.put_object(Bucket=LAKE, Key="archive/private", Body=b"x")
    with pytest.raises(ClientError) as got:
        anonymous.get_object(Bucket=LAKE, Key="archive/private")
    with pytest.raises(ClientError) as listed:
        anonymous.list_objects_v2(Bucket=LAKE)
    assert refused(got)
    assert refused(listed)


def test_the_sync_identity_reads_writes_and_lists_the_lake(sync: S3Client) -> None:
    sync.put_object(Bucket=LAKE, Key="archive/written", Body=b"1")
    assert sync.get_object(Bucket=LAKE, Key="archive/written")["Body"].read() == b"1"
    assert exists(sync, "archive/written")


def test_the_sync_identity_copies_from_a_source_to_the_lake_with_the_same_etag(sync: S3Client) -> None:
    sync.copy_object(Bucket=LAKE, Key=f"archive/binance/{KEY}", CopySource={"Bucket": SOURCE, "Key": KEY})
    copied = sync.head_object(Bucket=LAKE, Key=f"archive/binance/{KEY}")
    assert copied["ETag"] == sync.head_object(Bucket=SOURCE, Key=KEY)["ETag"]


def test_the_sync_identity_copies_in_parts_and_aborts_an_upload(sync: S3Client) -> None:
    where: Any = {"Bucket": LAKE, "Key": "archive/parts"}
    upload = sync.create_multipart_upload(**where)["UploadId"]
    part = sync.upload_part_copy(**where, UploadId=upload, PartNumber=1, CopySource={"Bucket": SOURCE, "Key": KEY})
    parts: Any = [{"PartNumber": 1, "ETag": part["CopyPartResult"]["ETag"]}]
    sync.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
    assert sync.get_object(**where)["Body"].read() == b"archive"

    abandoned = sync.create_multipart_upload(**where)["UploadId"]
    sync.abort_multipart_upload(**where, UploadId=abandoned)
    assert not sync.list_multipart_uploads(Bucket=LAKE).get("Uploads")


def test_the_sync_identity_may_not_write_to_a_source(sync: S3Client) -> None:
    with pytest.raises(ClientError) as error:
        sync.put_object(Bucket=SOURCE, Key="data/x", Body=b"")
    assert refused(error)


@pytest.mark.parametrize("key", ["archive/kept", "tables/kept"])
def test_the_sync_identity_may_not_delete(sync: S3Client, key: str) -> None:
    sync.put_object(Bucket=LAKE, Key=key, Body=b"x")
    with pytest.raises(ClientError) as error:
        sync.delete_object(Bucket=LAKE, Key=key)
    assert refused(error)
    errors = sync.delete_objects(Bucket=LAKE, Delete={"Objects": [{"Key": key}]})["Errors"]
    assert [each["Code"] for each in errors] == ["AccessDenied"]
    assert exists(sync, key)


def test_the_sync_identity_may_not_give_itself_rights(sync: S3Client) -> None:
    with pytest.raises(ClientError) as error:
        sync.delete_bucket_policy(Bucket=LAKE)
    assert refused(error)


def test_maintenance_deletes_below_tables(maintenance: S3Client, admin: S3Client) -> None:
    admin.put_object(Bucket=LAKE, Key="tables/klines/old.parquet", Body=b"x")
    maintenance.delete_object(Bucket=LAKE, Key="tables/klines/old.parquet")
    assert not exists(admin, "tables/klines/old.parquet")


@pytest.mark.parametrize("key", ["archive/binance/kept.zip", "_manifest/kept", "tables-kept"])
def test_maintenance_may_not_delete_elsewhere(maintenance: S3Client, admin: S3Client, key: str) -> None:
    admin.put_object(Bucket=LAKE, Key=key, Body=b"x")
    with pytest.raises(ClientError) as error:
        maintenance.delete_object(Bucket=LAKE, Key=key)
    assert refused(error)
    assert exists(admin, key)


def test_maintenance_may_not_write_to_a_source(maintenance: S3Client) -> None:
    with pytest.raises(ClientError) as error:
        maintenance.put_object(Bucket=SOURCE, Key="data/x", Body=b"")
    assert refused(error)


def test_a_conditional_put_does_not_replace_an_object(sync: S3Client) -> None:
    sync.put_object(Bucket=LAKE, Key="_manifest/0.json", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as error:
        sync.put_object(Bucket=LAKE, Key="_manifest/0.json", Body=b"second", IfNoneMatch="*")
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert sync.get_object(Bucket=LAKE, Key="_manifest/0.json")["Body"].read() == b"first"


def test_a_misspelt_bucket_is_an_error_even_for_admin(admin: S3Client) -> None:
    with pytest.raises(ClientError) as error:
        admin.put_object(Bucket="laek", Key="x", Body=b"")
    assert error.value.response["Error"]["Code"] == "NoSuchBucket"


def test_no_secret_is_on_the_command_line_or_in_the_environment(store: EmbeddedStore) -> None:
    process = Path(f"/proc/{store.pid}")
    text = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    for identity in (store.admin, store.sync, store.maintenance):
        assert identity.secret_access_key.encode() not in text
        assert identity.access_key_id.encode() not in text


def test_only_loopback_is_listened_on(store: EmbeddedStore) -> None:
    sockets = {str(fd.readlink()) for fd in Path(f"/proc/{store.pid}/fd").iterdir() if fd.is_symlink()}
    listening = [
        line.split()[1].split(":")[0]
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and f"socket:[{line.split()[9]}]" in sockets
    ]
    assert listening
    assert set(listening) == {"0100007F"}


def test_data_and_credentials_survive_a_restart_in_a_given_directory(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path / "store") as first:
        first.lake().boto3_client().put_object(Bucket=LAKE, Key="archive/kept", Body=b"kept")
        credentials, endpoint = first.sync, first.endpoint_url
        identities = tmp_path / "store" / "identities.json"
        assert stat.S_IMODE(identities.stat().st_mode) == 0o600
    with EmbeddedStore(tmp_path / "store") as second:
        assert second.sync == credentials
        assert second.endpoint_url == endpoint
        body = second.lake().boto3_client().get_object(Bucket=LAKE, Key="archive/kept")["Body"].read()
        assert body == b"kept"


def test_data_survives_sigkill_and_a_move_to_other_ports(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)
    store.start()
    store.lake().boto3_client().put_object(Bucket=LAKE, Key="archive/kept", Body=b"kept" * 1000)
    endpoint = store.endpoint_url
    assert store.pid is not None
    os.kill(store.pid, signal.SIGKILL)
    store.stop()
    stranger = ("127.0.0.1", int(endpoint.rsplit(":", 1)[1]))
    with socket.create_server(stranger), EmbeddedStore(tmp_path) as moved:
        assert moved.endpoint_url != endpoint
        client = moved.lake().boto3_client()
        assert client.get_object(Bucket=LAKE, Key="archive/kept")["Body"].read() == b"kept" * 1000
        client.put_object(Bucket=LAKE, Key="archive/new", Body=b"new")
        assert client.get_object(Bucket=LAKE, Key="archive/kept")["Body"].read() == b"kept" * 1000


def test_a_directory_serves_one_store_at_a_time(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path), pytest.raises(InputError, match="in use"):
        EmbeddedStore(tmp_path).start()


def test_a_child_that_is_just_being_forked_does_not_keep_directory_or_ports(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)
    store.start()
    endpoint = store.endpoint_url
    # A fork without exec holds copies of all descriptors, as any child does for a moment before its exec.
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    try:
        store.stop()
        with EmbeddedStore(tmp_path) as again:
            assert again.endpoint_url == endpoint
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_taken_port_is_refused(store: EmbeddedStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(InputError, match=f"Port {port} .* is taken"):
            EmbeddedStore(port=port).start()


def test_stores_started_at_the_same_time_use_different_ports() -> None:
    stores = [EmbeddedStore() for _ in range(3)]
    try:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(EmbeddedStore.start, stores))
        assert len({each.endpoint_url for each in stores}) == 3
        # Started by threads that have ended: their end must not be the stores' end.
        time.sleep(0.3)
        for number, each in enumerate(stores):
            each.lake().boto3_client().put_object(Bucket=LAKE, Key=f"only-{number}", Body=b"")
        for number, each in enumerate(stores):
            listed = each.lake().boto3_client().list_objects_v2(Bucket=LAKE)["Contents"]
            assert [found["Key"] for found in listed] == [f"only-{number}"]
    finally:
        for each in stores:
            each.stop()


def test_nothing_is_left_after_stop() -> None:
    with EmbeddedStore() as store:
        pid = store.pid
        assert pid is not None
        directory = Path(f"/proc/{pid}/cwd").readlink()
        assert directory.is_dir()
        port = store.endpoint_url.rsplit(":", 1)[1]
        assert Path(f"/tmp/seaweedfs-s3-{port}.sock").exists()
    assert not is_running(pid)
    assert not directory.exists()
    assert not any(f"-{port}.sock" in path.name for path in Path("/tmp").glob("seaweedfs-*.sock"))


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux'")
def test_sigkill_of_the_parent_ends_weed(tmp_path: Path) -> None:
    script = (
        "import sys, time, threading\n"
        "from pathlib import Path\n"
        "from lakehouse_assets.embedded.seaweedfs import EmbeddedStore\n"
        "store = EmbeddedStore(Path(sys.argv[1]))\n"
        "thread = threading.Thread(target=store.start); thread.start(); thread.join()\n"
        "print(store.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        weed = int(parent.stdout.readline())
        assert is_running(weed)
    finally:
        parent.kill()
        parent.communicate()
    assert ends(weed)


def test_an_interpreter_that_forgets_to_stop_leaves_nothing() -> None:
    script = (
        "import os\n"
        "from lakehouse_assets.embedded.seaweedfs import EmbeddedStore\n"
        "store = EmbeddedStore(); store.start()\n"
        "print(store.pid, os.readlink(f'/proc/{store.pid}/cwd'))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    pid, directory = result.stdout.split()
    assert ends(int(pid))
    assert not Path(directory).exists()
    assert result.stderr == ""


def test_a_store_that_cannot_start_shows_the_log(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "filerldb2").write_text("in the way")
    with pytest.raises(EmbeddedStoreError, match="did not start") as error:
        EmbeddedStore(tmp_path).start()
    assert "filerldb2" in str(error.value)


def test_a_missing_weed_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seaweedfs.shutil, "which", lambda *_, **__: None)
    with pytest.raises(InputError, match=r"lakehouse-assets\[embedded\]"):
        EmbeddedStore().start()


def test_the_endpoint_is_not_known_before_start() -> None:
    with pytest.raises(EmbeddedStoreError, match="not running"):
        _ = EmbeddedStore().endpoint_url
