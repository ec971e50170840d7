"""Faults of tools and environment: s5cmd, the scratch disk, credentials, buckets, whole servers."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lakehouse_assets.archive.bucket import Credentials
from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.errors import StoreError
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.sync.movers import s5cmd
from lakehouse_assets_tests.faults.proxy import READS, WRITES, Meanwhile, Reset, Rule
from lakehouse_assets_tests.faults.trial import trial
from lakehouse_assets_tests.world import World

ARCHIVE = "archive/"


@pytest.fixture
def wrapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Installs shell commands that run before s5cmd, in its process."""
    real = s5cmd.executable()

    def install(before: str) -> None:
        path = tmp_path / "s5cmd"
        path.write_text(f'#!/bin/sh\n{before}\nexec {real} "$@"\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(s5cmd, "executable", lambda: str(path))

    return install


def signal_s5cmd(number: signal.Signals) -> None:
    """Send a signal to the s5cmd that this process runs."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            command = (entry / "cmdline").read_bytes().split(b"\0")[0]
        except (OSError, IndexError):
            continue  # it ended meanwhile
        if parent == os.getpid() and command.endswith(b"s5cmd"):
            os.kill(int(entry.name), number)


def kill_s5cmd() -> None:
    signal_s5cmd(signal.SIGKILL)


def stop_s5cmd() -> None:
    """The process stays, and does nothing more."""
    signal_s5cmd(signal.SIGSTOP)


@pytest.mark.parametrize("mode", [SyncMode.DIRECT, SyncMode.STAGED])
def test_a_killed_s5cmd_is_started_again_for_the_rest(world: World, mode: SyncMode) -> None:
    rule = Rule(Meanwhile(kill_s5cmd), WRITES, ARCHIVE, first=20, most=1)
    with trial(f"s5cmd killed, SIGKILL ({mode})", world, rule) as t:
        report = t.first(mode, workers=4)
        assert t.injected == 1
        assert report.total("present") == 28
        t.second(mode)


def test_objects_are_named_when_s5cmd_is_killed_every_time(world: World) -> None:
    rule = Rule(Meanwhile(kill_s5cmd), WRITES, ARCHIVE, first=20, most=1)
    with trial("s5cmd killed, one attempt", world, rule) as t:
        report = t.first(SyncMode.DIRECT, workers=4, attempts=1)
        assert 0 < report.total("present") < 28
        reasons = [failure.reason for period in report.periods for failure in period.failures]
        assert any("s5cmd ended with status -9" in reason for reason in reasons)
        t.second()


@pytest.mark.parametrize("mode", [SyncMode.DIRECT, SyncMode.STAGED])
def test_a_hanging_s5cmd_is_ended_and_started_again_for_the_rest(world: World, mode: SyncMode) -> None:
    rule = Rule(Meanwhile(stop_s5cmd), WRITES, ARCHIVE, first=20, most=1)
    with trial(f"s5cmd hangs ({mode})", world, rule) as t:
        report = t.first(mode, workers=4, stall_seconds=3.0)
        assert t.injected == 1
        assert report.total("present") == 28
        t.second(mode)


def test_a_full_scratch_disk_fails_the_objects_that_do_not_fit_by_name(
    world: World, wrapped: Callable[[str], None], tmp_path: Path
) -> None:
    """A limit on file sizes simulates a full disk, since it needs no privileges."""
    with trial("scratch disk full (staged)", world, symbols=("AUSDT",), size=3000) as t:
        wrapped("ulimit -f 1")
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        report = t.first(SyncMode.STAGED, attempts=1, scratch=scratch)
        t.injected = 7
        assert report.total("present") == 0
        assert report.total("failed") == 7
        reasons = [failure.reason for period in report.periods for failure in period.failures]
        assert all(reason.startswith("Scratch: the download could not be written: ") for reason in reasons), reasons
        assert list(scratch.iterdir()) == [], "scratch files were left behind"
        wrapped("")
        t.second(SyncMode.STAGED)


def test_a_missing_scratch_folder_is_named(world: World, tmp_path: Path) -> None:
    with trial("scratch folder gone (staged)", world, symbols=("AUSDT",)) as t:
        report = t.first(SyncMode.STAGED, scratch=tmp_path / "gone")
        t.injected = 1
        reasons = {failure.reason for period in report.periods for failure in period.failures}
        assert reasons == {"Scratch: the scratch folder cannot be used: No such file or directory"}
        t.second()


def test_wrong_credentials_end_the_sync_before_anything_is_written(world: World) -> None:
    with trial("wrong credentials", world) as t:
        known = world.lake.bucket.credentials
        assert known is not None
        wrong = replace(t.faulty.lake.bucket, credentials=Credentials(known.access_key_id, "not-the-planted-secret"))
        t.faulty.lake = Lake(wrong, world.lake.prefix)
        error = t.first()
        t.injected = t.proxy.counts().total()
        assert isinstance(error, StoreError)
        assert "SignatureDoesNotMatch" in str(error)
        assert "not-the-planted-secret" not in str(error)
        assert t.etags() == {}
        t.second()


@pytest.mark.parametrize("side", ["lake", "source"])
def test_a_missing_bucket_is_named(world: World, side: str) -> None:
    with trial(f"missing bucket ({side})", world) as t:
        # The store reports a missing bucket only to an administrator; it refuses others.
        missing = replace(world.store.admin_bucket("no-such-bucket"), endpoint_url=t.proxy.endpoint_url)
        if side == "lake":
            t.faulty.lake = Lake(missing, world.lake.prefix)
        else:
            t.faulty.source = missing
        error = t.first()
        t.injected = t.proxy.counts().total()
        assert isinstance(error, StoreError)
        assert "no-such-bucket" in str(error)
        assert "NoSuchBucket" in str(error)
        t.second()


def test_a_source_server_that_dies_during_a_sync_and_comes_back(world: World, tmp_path: Path) -> None:
    """Two real servers: the source's is killed while the relay reads, and restarted on the same port."""
    with EmbeddedStore(tmp_path / "source") as far:
        remote = World(far)
        remote.lake = world.lake

        def kill() -> None:
            if far.pid is not None:
                os.kill(far.pid, signal.SIGKILL)

        dead = Rule(Meanwhile(kill), READS, "data/futures", first=20, most=1)
        with trial("source server killed (relay)", remote, dead, lake=False, max_attempts=1) as t:
            error = t.first(workers=4)
            assert isinstance(error, StoreError)
            far.start()
            report = t.second(faulty=True)
            assert report.copied_by_mode.keys() == {"relay"}


SIDECARS = {
    "wrong": (b"%064d  NAME\n" % 1, "mismatch", "the sidecar says"),
    "empty": (b"", "etag_verified", "the sidecar is empty"),
    "for another file": (b"%064d  other.zip\n" % 1, "etag_verified", "the sidecar is for 'other.zip'"),
    "no digest": (b"<html>busy</html>\n", "etag_verified", "does not begin with"),
    "missing": (None, "etag_verified", None),
}


@pytest.mark.parametrize("mode", [SyncMode.RELAY, SyncMode.STAGED])
@pytest.mark.parametrize("kind", SIDECARS)
def test_a_wrong_sidecar_is_recorded_until_it_is_corrected(world: World, kind: str, mode: SyncMode) -> None:
    body, state, note = SIDECARS[kind]
    with trial(f"sidecar {kind}, then corrected ({mode})", world, symbols=("AUSDT",)) as t:
        key = t.keys[0]
        name = key.rsplit("/", 1)[1].encode()
        world.withdraw(key)
        world.put(key, t.bodies[key], sidecar=False)
        if body is not None:
            world.put(f"{key}.CHECKSUM", body.replace(b"NAME", name), sidecar=False)
        t.published = {f"{key}.CHECKSUM": None if body is None else body.replace(b"NAME", name)}
        t.first(mode)
        t.injected = 1
        first = t.row(key)
        assert (first["state"], first["integrity"], first["copy_differs"]) == ("present", state, False)
        assert (first["integrity_note"] is None) if note is None else (note in first["integrity_note"])
        assert t.world.engine().sync(t.scope, mode=mode).total("copied") == 0, "a mismatch is not fetched forever"
        assert t.row(key) == first
        t.published = {}
        t.world.put(key, t.bodies[key])
        report = t.second(mode)
        assert (report.total("copied"), report.total("sidecars_copied")) == (0, 1)
        corrected = t.row(key)
        assert (corrected["integrity"], corrected["integrity_note"]) == ("verified", None)
        assert corrected["sha256"] == first["sha256"]


def test_resets_of_all_connections_for_a_while_cost_only_retries(world: World) -> None:
    with trial("every connection reset, 10 times", world, Rule(Reset(), (*READS, *WRITES), "data/", most=10)) as t:
        assert t.first(SyncMode.AUTO).total("present") == 28
        t.second()
