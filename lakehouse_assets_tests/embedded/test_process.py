"""Tethered programs behave as usual, but end with the process that started them."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lakehouse_assets.process import spawn_tethered, tethered

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux'")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_arguments_output_and_status_are_the_programs_own() -> None:
    script = "import sys; print(sys.argv[1:]); sys.exit(3)"
    odd = ["a b", "'", "$HOME", "é", ""]
    result = subprocess.run(tethered([sys.executable, "-c", script, *odd]), capture_output=True, text=True, check=False)
    assert result.returncode == 3
    assert result.stdout.strip() == str(odd)


def test_the_process_id_and_signals_are_the_programs_own() -> None:
    with subprocess.Popen(tethered(["sleep", "60"])) as process:
        deadline = time.monotonic() + 30
        while not Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(b"sleep"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.terminate()
        assert process.wait(30) == -15


def test_a_program_that_does_not_exist_exits_with_127_and_its_name() -> None:
    result = subprocess.run(tethered(["no-such-program"]), capture_output=True, text=True, check=False)
    assert result.returncode == 127
    assert "no-such-program" in result.stderr


@linux_only
def test_a_program_ends_when_its_starter_is_killed() -> None:
    script = (
        "import subprocess, time\n"
        "from lakehouse_assets.process import tethered\n"
        "print(subprocess.Popen(tethered(['sleep', '60'])).pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    time.sleep(0.2)
    assert is_running(pid)
    starter.kill()
    starter.communicate()
    deadline = time.monotonic() + 30
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@linux_only
def test_spawn_tethered_survives_the_thread_that_called_it() -> None:
    started: list[subprocess.Popen[bytes]] = []
    thread = threading.Thread(target=lambda: started.append(spawn_tethered(["sleep", "60"])))
    thread.start()
    thread.join()
    time.sleep(0.3)
    [process] = started
    assert process.poll() is None
    process.kill()
    assert process.wait(30) == -9


def test_spawn_tethered_raises_what_popen_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        spawn_tethered(["true"], cwd=tmp_path / "missing")
