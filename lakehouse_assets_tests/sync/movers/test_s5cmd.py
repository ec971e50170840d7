"""s5cmd as a child process: every command gets an outcome, whatever s5cmd does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from lakehouse_assets.archive.bucket import Bucket, Credentials
from lakehouse_assets.sync.movers import s5cmd as module
from lakehouse_assets.sync.movers.base import TransferOptions
from lakehouse_assets.sync.movers.direct import DirectMover
from lakehouse_assets.sync.movers.s5cmd import S5cmd
from lakehouse_assets.sync.movers.s5cmd_protocol import CopyCommand, CopyFlags
from lakehouse_assets_tests.world import World, body_of

PLANTED = Credentials("planted-key-id", "planted-secret", "planted-token")


def commands_of(world: World, keys: list[str]) -> list[CopyCommand]:
    lake = world.lake.bucket.url
    return [
        CopyCommand(f"{world.source.url}/{key}", f"{lake}/{world.lake.key(f'archive/binance/{key}')}") for key in keys
    ]


def test_success_and_failure_are_distinguished_per_object(world: World) -> None:
    [good] = world.publish(["BTCUSDT"], ["2024-01-01"])
    gone = world.key("BTCUSDT", "2024-01-02")
    commands = commands_of(world, [good, gone])
    outcomes = S5cmd(identity=world.lake.bucket).run(commands)
    assert outcomes[commands[0]] is None
    assert outcomes[commands[1]].code == "NoSuchKey"


def test_keys_with_shell_syntax_are_plain_names(world: World, tmp_path: Path) -> None:
    names = [
        "a'b.zip",
        'a"b.zip',
        "$(touch pwned).zip",
        "`id`.zip",
        "a;b.zip",
        "a|b>c.zip",
        "a*b?.zip",
        "a\\b.zip",
        "#.zip",
    ]
    prefix = f"hostile/{world.tag}/"
    for name in names:
        world.put(prefix + name, name.encode(), sidecar=False)
    commands = commands_of(world, [prefix + name for name in names])
    outcomes = S5cmd(identity=world.lake.bucket).run(commands)
    assert set(outcomes) == set(commands)
    for name, command in zip(names, commands, strict=True):
        if outcomes[command] is None and "\\" not in name:  # the store turns a backslash into a slash
            assert world.lake_body(f"archive/binance/{prefix}{name}") == name.encode()
    assert not Path("pwned").exists()
    assert sum(fault is None for fault in outcomes.values()) >= 6


@pytest.mark.parametrize("sign", ["\n", "\r", "\0"])
def test_a_key_with_a_line_break_or_nul_is_refused_by_name_and_the_others_are_copied(world: World, sign: str) -> None:
    [good] = world.publish(["BTCUSDT"], ["2024-01-01"])
    commands = commands_of(world, [f"data/x{sign}rm s3://lake", good])
    outcomes = S5cmd(identity=world.lake.bucket).run(commands)
    assert outcomes[commands[0]].code == "UnsayableKey"
    assert outcomes[commands[1]] is None


def test_commands_that_s5cmd_does_not_report_have_failed(world: World, impostor) -> None:
    keys = world.publish(["BTCUSDT"], ["2024-01-01", "2024-01-02"])
    commands = commands_of(world, keys)
    first = commands[0]
    impostor(f"""
        cat > /dev/null
        echo '{{"operation":"cp","success":true,"source":"{first.source}","destination":"{first.destination}"}}'
        exit 0
    """)
    outcomes = S5cmd(identity=world.lake.bucket).run(commands)
    assert outcomes[first] is None
    assert outcomes[commands[1]].code == "NotReported"


def test_invalid_output_and_a_crash_fail_every_command_and_are_quoted(world: World, impostor) -> None:
    impostor("""
        cat > /dev/null
        echo '[1, 2'; echo '"text"'; echo '{"success": true}'; echo 'panic: out of luck' >&2
        exit 2
    """)
    [command] = commands_of(world, ["data/x.zip"])
    fault = S5cmd(identity=world.lake.bucket).run([command])[command]
    assert fault.code == "NotReported"
    assert "status 2" in fault.message
    assert "panic: out of luck" in fault.message


def test_a_killed_s5cmd_fails_its_unfinished_commands(world: World, impostor) -> None:
    impostor("kill -KILL $$")
    [command] = commands_of(world, ["data/x.zip"])
    fault = S5cmd(identity=world.lake.bucket).run([command])[command]
    assert "status -9" in fault.message


def test_a_stalled_s5cmd_is_ended_with_its_children(world: World, impostor, tmp_path: Path) -> None:
    impostor(f"sleep 600 & echo $! > {tmp_path}/child; wait")
    [command] = commands_of(world, ["data/x.zip"])
    fault = S5cmd(identity=world.lake.bucket, stall_seconds=1.0).run([command])[command]
    assert fault.code == "Stalled"
    assert_ends(int((tmp_path / "child").read_text()))


def test_a_missing_s5cmd_fails_every_command(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "executable", lambda: "/nonexistent/s5cmd")
    [command] = commands_of(world, ["data/x.zip"])
    fault = S5cmd(identity=world.lake.bucket).run([command])[command]
    assert "status 127" in fault.message


def test_credentials_are_passed_in_the_environment_and_never_on_the_command_line() -> None:
    identity = Bucket(name="lake", endpoint_url="http://127.0.0.1:9", credentials=PLANTED)
    tool = S5cmd(identity=identity)
    assert "planted" not in " ".join(tool.arguments())
    assert "planted" not in repr(tool)
    environment = tool.environment({"AWS_PROFILE": "other", "AWS_SESSION_TOKEN": "other", "SECRET": "x", "HOME": "/h"})
    assert environment == {
        "HOME": "/h",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "planted-key-id",
        "AWS_SECRET_ACCESS_KEY": "planted-secret",
        "AWS_SESSION_TOKEN": "planted-token",
    }


def test_an_anonymous_s5cmd_gets_no_credentials() -> None:
    tool = S5cmd(identity=Bucket(name="x", anonymous=True))
    assert "--no-sign-request" in tool.arguments()
    assert not [name for name in tool.environment({"AWS_ACCESS_KEY_ID": "k"}) if name != "AWS_REGION"]


def test_the_default_chain_is_passed_through_for_web_identity() -> None:
    outer = {"AWS_WEB_IDENTITY_TOKEN_FILE": "/t", "AWS_ROLE_ARN": "arn:aws:iam::1:role/r", "OTHER": "x"}
    outer |= {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_USE_FIPS_ENDPOINT": "true"}
    environment = S5cmd(identity=Bucket(name="x")).environment(outer)
    assert environment.items() >= {"AWS_WEB_IDENTITY_TOKEN_FILE": "/t", "AWS_ROLE_ARN": "arn:aws:iam::1:role/r"}.items()
    assert not {"OTHER", "AWS_ENDPOINT_URL", "AWS_USE_FIPS_ENDPOINT"} & environment.keys()


def test_regions_are_passed_only_on_aws() -> None:
    source = Bucket(name="data.binance.vision", region="ap-northeast-1", anonymous=True)
    flags = DirectMover(source, Bucket(name="lake", region="eu-central-1"), TransferOptions()).flags()
    assert flags.arguments() == ["--raw", "--source-region", "ap-northeast-1", "--destination-region", "eu-central-1"]
    elsewhere = Bucket(name="lake", endpoint_url="https://minio.example")
    assert DirectMover(source, elsewhere, TransferOptions()).flags() == CopyFlags()


@pytest.mark.parametrize("name", ["data.binance.vision", "plain"])
def test_a_bucket_on_aws_is_addressed_by_path_at_its_regions_endpoint(name: str) -> None:
    source = Bucket(name=name, region="ap-northeast-1", anonymous=True)
    arguments = S5cmd(identity=source).arguments()
    assert arguments[arguments.index("--endpoint-url") + 1] == "https://s3.ap-northeast-1.amazonaws.com"


def test_its_version_is_queried_without_our_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "s5cmd"
    script.write_text("#!/bin/sh\n/usr/bin/env\n")
    script.chmod(0o755)
    monkeypatch.setattr(module, "executable", lambda: str(script))
    monkeypatch.setenv("LAKEHOUSE_LAKE_SECRET_ACCESS_KEY", "planted-4711")
    assert "planted-4711" not in module.version()


def test_s5cmd_ends_with_its_parent_even_if_the_parent_is_killed(world: World, tmp_path: Path) -> None:
    """The kernel ends it (Linux); elsewhere its broken pipes do."""
    program = tmp_path / "caller.py"
    program.write_text(
        textwrap.dedent("""
        import os, sys
        from lakehouse_assets.archive.bucket import Bucket
        from lakehouse_assets.sync.movers import s5cmd
        s5cmd.executable = lambda: sys.argv[1]
        s5cmd.S5cmd(identity=Bucket(name="x", anonymous=True)).run([s5cmd.CopyCommand("s3://a/b", "s3://c/d")])
        """)
    )
    stub = tmp_path / "s5cmd"
    stub.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid.new\nmv {tmp_path}/pid.new {tmp_path}/pid\nexec sleep 600\n")
    stub.chmod(0o755)
    with subprocess.Popen([sys.executable, str(program), str(stub)]) as caller:
        for _ in range(600):
            if (tmp_path / "pid").exists():
                break
            time.sleep(0.05)
        pid = int((tmp_path / "pid").read_text())
        assert is_running(pid)
        os.kill(caller.pid, signal.SIGKILL)
    assert_ends(pid)


def test_outcomes_are_reported_as_they_arrive(world: World) -> None:
    keys = world.publish(["BTCUSDT"], ["2024-01-01", "2024-01-02"])
    reported: list[CopyCommand] = []
    thread = threading.current_thread()

    def on_outcome(command: CopyCommand, fault: object) -> None:
        assert fault is None
        assert threading.current_thread() is thread
        reported.append(command)

    commands = commands_of(world, keys)
    S5cmd(identity=world.lake.bucket).run(commands, CopyFlags(), on_outcome)
    assert sorted(reported, key=str) == sorted(commands, key=str)
    assert world.lake_body(f"archive/binance/{keys[0]}") == body_of(keys[0], 1, 400)


def assert_ends(pid: int) -> None:
    for _ in range(100):
        if not is_running(pid):
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} goes on")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_child_that_outlives_s5cmd_and_keeps_writing_is_ended_at_the_deadline(
    world: World, impostor, tmp_path
) -> None:
    impostor(f"yes x & echo $! > {tmp_path}/child; exit 0")
    [command] = commands_of(world, ["data/x.zip"])
    fault = S5cmd(identity=world.lake.bucket, stall_seconds=60, deadline_seconds=1.0).run([command])[command]
    assert fault.code == "Deadline"
    assert_ends(int((tmp_path / "child").read_text()))


def test_output_without_outcomes_is_no_progress(world: World, impostor) -> None:
    impostor("while true; do echo still here; sleep 0.05; done")
    [command] = commands_of(world, ["data/x.zip"])
    fault = S5cmd(identity=world.lake.bucket, stall_seconds=1.0, deadline_seconds=60).run([command])[command]
    assert fault.code == "Stalled"


@pytest.mark.parametrize(
    "output",
    [
        "printenv AWS_SECRET_ACCESS_KEY",
        "head -c 3000000 /dev/zero | tr '\\0' x; echo",
        "printf '%0200000d' 0 | tr 0 '['; echo",
        """printf '{"error": "half a \\\\ud800 letter", "command": "cp"}\\n'""",
    ],
    ids=["a secret", "3 MB", "200,000 brackets", "half a letter"],
)
def test_output_of_s5cmd_is_quoted_shortened_and_without_secrets(world: World, impostor, output: str) -> None:
    impostor(f"cat > /dev/null; {output}; exit 3")
    [command] = commands_of(world, ["data/x.zip"])
    fault = S5cmd(identity=world.lake.bucket).run([command])[command]
    assert (fault.code, "; its output: " in fault.message) == ("NotReported", True)
    assert len(fault.message) < 1200
    assert world.lake.bucket.credentials.secret_access_key not in fault.message
    fault.message.encode()
