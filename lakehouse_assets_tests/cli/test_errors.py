"""Wrong input gives one line on stderr, status 2, and nothing on stdout."""

from __future__ import annotations

import resource
from datetime import UTC, datetime, timedelta

import pytest
from typer.main import get_command

from lakehouse_assets.archive.matrix import SyncMode
from lakehouse_assets.cli.main import app
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets_tests.cli.conftest import RunLakehouse
from lakehouse_assets_tests.faults.proxy import LISTS, READS, WRITES, Proxy, Refusal, Rule
from lakehouse_assets_tests.world import KLINES

LAKE = {
    "LAKEHOUSE_LAKE_BUCKET": "lake",
    "LAKEHOUSE_LAKE_ENDPOINT_URL": "http://127.0.0.1:9",
    "LAKEHOUSE_LAKE_ACCESS_KEY_ID": "a",
    "LAKEHOUSE_LAKE_SECRET_ACCESS_KEY": "b",
}
SPOT = "binance/spot/klines/daily"
DAY = ("--from", "2024-01-01", "--to", "2024-01-01")
KNOWN = (
    "binance/spot/klines/daily, binance/um/klines/daily, binance/um/klines/monthly, "
    "binance/um/fundingRate/monthly, binance/um/metrics/daily, binance/cm/klines/daily, binance/cm/aggTrades/daily"
)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["fetch"], "No such command 'fetch'. See: lakehouse --help"),
        (["plan", *DAY], "Missing argument 'DATASET'. See: lakehouse plan --help"),
        (["plan", SPOT, "--from", "2024-01-01"], "Missing option '--to'. See: lakehouse plan --help"),
        (["plan", SPOT, *DAY, "--quick"], "No such option: --quick. See: lakehouse plan --help"),
        (
            ["demo", "--days", "0"],
            "Invalid value for '--days': Input should be greater than or equal to 1. See: lakehouse demo --help",
        ),
        (
            ["plan", "binance/spot/kline/daily", *DAY],
            (
                "'binance/spot/kline/daily' is not in the archive matrix (did you mean 'binance/spot/klines/daily'?); "
                f"it has {KNOWN}."
            ),
        ),
        (
            ["sync", SPOT, "--from", "yesterday", "--to", "2024-01-01"],
            "'yesterday' is not a daily period; write it as YYYY-MM-DD.",
        ),
        (
            ["sync", SPOT, "--from", "2024-02-30", "--to", "2024-03-01"],
            "'2024-02-30' is not a date: day is out of range for month.",
        ),
        (
            ["sync", SPOT, "--from", "2024-01-02", "--to", "2024-01-01"],
            "The range 2024-01-02 to 2024-01-01 ends before it starts.",
        ),
        (
            ["plan", SPOT, "--from", "2015-01-01", "--to", "2017-09-01"],
            f"{SPOT} begins with 2017-07-14; 2015-01-01 is before that.",
        ),
        (
            ["sync", SPOT, *DAY, "--intervals", "5m"],
            f"{SPOT} is not collected at interval '5m'; the matrix has 1m, 1h.",
        ),
        (["sync", SPOT, *DAY, "--symbols", "BTCBUSD"], f"{SPOT}: the matrix does not select the symbol 'BTCBUSD'."),
        (
            ["sync", SPOT, *DAY, "--symbols", "BTCUSDT,"],
            "--symbols 'BTCUSDT,' has an empty name; write it as A,B.",
        ),
        (["sync", SPOT, *DAY, "--mode", "fast"], f"'fast' is not a mode; use one of {', '.join(SyncMode)}."),
        (
            ["discover", "gate", "--market", "umm"],
            "gate has no market 'umm'; it has spot, futures_usdt, futures_btc, delivery_usdt, tradfi.",
        ),
        (
            ["demo", "--samples", "/no/such/folder"],
            "/no/such/folder is not a folder; name one that is laid out like an archive.",
        ),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_wrong_input_is_one_line_and_status_2(run_lakehouse: RunLakehouse, arguments: list[str], line: str) -> None:
    result = run_lakehouse(*arguments, env=LAKE)
    assert (result.stderr, result.stdout, result.returncode) == (f"{line}\n", "", 2)


def test_a_period_that_is_not_over_is_one_line_and_status_2(run_lakehouse: RunLakehouse) -> None:
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    result = run_lakehouse("plan", SPOT, "--from", "2024-01-01", "--to", str(tomorrow), env=LAKE)
    # Yesterday, or today if midnight passed meanwhile.
    assert result.stderr in {
        f"{SPOT} is published up to {tomorrow - timedelta(days=before)}; {tomorrow} is after that.\n"
        for before in (2, 1)
    }
    assert (result.stdout, result.returncode) == ("", 2)


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        (
            {},
            (
                "No lake is configured: set LAKEHOUSE_LAKE_BUCKET (and LAKEHOUSE_LAKE_ENDPOINT_URL unless on AWS), "
                "or try the embedded one with: lakehouse demo"
            ),
        ),
        (
            LAKE | {"LAKEHOUSE_MATRIX": "/no/such/matrix.yaml"},
            "The archive matrix /no/such/matrix.yaml cannot be read: No such file or directory.",
        ),
        (
            LAKE | {"LAKEHOUSE_SYNC_WORKERS": "many"},
            "Settings: LAKEHOUSE_SYNC_WORKERS: Input should be a valid integer, unable to parse string as an integer.",
        ),
    ],
    ids=["no lake", "no matrix", "bad setting"],
)
def test_wrong_settings_are_one_line_and_status_2(
    run_lakehouse: RunLakehouse, environment: dict[str, str], line: str
) -> None:
    result = run_lakehouse("plan", SPOT, *DAY, env=environment)
    assert (result.stderr, result.stdout, result.returncode) == (f"{line}\n", "", 2)


def test_a_lake_that_does_not_answer_is_one_line_and_status_1(run_lakehouse: RunLakehouse) -> None:
    source = {"LAKEHOUSE_SOURCE_ENDPOINT_URL": "http://127.0.0.1:9", "LAKEHOUSE_SOURCE_MAX_ATTEMPTS": "1"}
    result = run_lakehouse("plan", SPOT, *DAY, env=LAKE | source | {"LAKEHOUSE_LAKE_MAX_ATTEMPTS": "1"})
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "127.0.0.1:9" in result.stderr or "s3://" in result.stderr


@pytest.mark.parametrize(
    ("what", "answer", "advice"),
    [
        ("no rights", Refusal(403, "AccessDenied"), "check the credentials and the bucket's policy"),
        ("expired token", Refusal(400, "ExpiredToken"), "the temporary credentials expired; renew them"),
        ("wrong region", Refusal(301, "PermanentRedirect"), "check the bucket's region"),
        ("wrong region", Refusal(400, "AuthorizationHeaderMalformed"), "check the bucket's region"),
        ("wrong secret", Refusal(403, "SignatureDoesNotMatch"), "check the secret key"),
        ("wrong key", Refusal(403, "InvalidAccessKeyId"), "check the access key"),
        ("wrong bucket", Refusal(404, "NoSuchBucket"), "check the bucket's name and region"),
        ("wrong clock", Refusal(403, "RequestTimeTooSkewed"), "set this machine's clock"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "sync", "coverage", "verify"])
def test_a_refusal_by_a_store_is_one_line_with_advice(  # noqa: PLR0917 - fixtures and a table
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environment: dict[str, str],
    store: EmbeddedStore,
    command: str,
    what: str,
    answer: Refusal,
    advice: str,
) -> None:
    """Run in this process, since a new process takes two seconds."""
    arguments = [command, KLINES, *([] if command == "coverage" else ["--from", "2024-01-01", "--to", "2024-01-02"])]
    with Proxy(
        store.endpoint_url, Rule(answer, (*LISTS, *READS, *WRITES, "HeadObject", "OfBucket"))
    ).running() as proxy:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("LAKEHOUSE_LAKE_ENDPOINT_URL", proxy.endpoint_url)
        monkeypatch.setenv("LAKEHOUSE_LAKE_MAX_ATTEMPTS", "1")
        with pytest.raises(SystemExit) as ended:
            get_command(app).main(arguments, prog_name="lakehouse")
    shown = capsys.readouterr()
    assert ended.value.code == 1
    assert len(shown.err.splitlines()) == 1, shown.err
    line = shown.err
    assert "s3://" in line
    assert answer.code in line
    assert line.count(f"({advice})") == 1, what
    assert shown.out == ""


def test_a_traceback_is_shown_with_debug(run_process: RunLakehouse) -> None:
    result = run_process("plan", SPOT, *DAY, env={"LAKEHOUSE_DEBUG": "1"})
    assert result.returncode == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("No lake is configured")


def test_help_and_version_are_fast(run_process: RunLakehouse) -> None:
    assert run_process("--version").stdout == "lakehouse 0.1.0\n"
    used = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = run_process("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Processor time, which does not grow while a busy machine makes the process wait.
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert result.returncode == 0
        assert "demo" in result.stdout
    assert min(used) < 0.8
