"""Child processes that do not outlive this process, even if it is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

# Runs first, and is then replaced by the program under the same process id. getppid() is checked after the request,
# because no signal would come if the parent had died before it.
_TETHER = """\
import ctypes, os, sys
PR_SET_PDEATHSIG, SIGKILL = 1, 9
if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0:
    sys.exit("prctl(PR_SET_PDEATHSIG): " + os.strerror(ctypes.get_errno()))
if os.getppid() != int(sys.argv[1]):
    sys.exit("the starting process has ended")
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.stderr.write(f"{sys.argv[2]}: {error.strerror}\\n")
    sys.exit(127)
"""


def tethered(argv: Sequence[str]) -> list[str]:
    """Wrap ``argv`` so that the program is killed (SIGKILL) when the process that started it ends.

    Process id, exit status, signals, file descriptors and environment are those of the program, since the wrapper
    replaces itself with it. A program that cannot be executed exits with 127. The wrapper costs about 10 ms per start.
    It does not cover children of the program.

    The kernel ties the signal to the *thread* that starts the program, so that thread must live as long as the program,
    as it does if it waits for it. Otherwise use `spawn_tethered`. Call this in the process that starts the program,
    immediately before starting it. On systems other than Linux the result is ``argv`` itself.
    """
    if sys.platform != "linux" or not sys.executable:
        return list(argv)
    return [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()), *argv]


def spawn_tethered(argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a tethered program that may outlive the calling thread, but not this process.

    ``options`` and errors are those of `subprocess.Popen`. A separate thread starts the program and lives until it has
    ended. The thread does not reap it, so ``wait``, ``poll`` and signals work as usual.
    """
    if sys.platform != "linux":
        untethered: Any = subprocess.Popen(list(argv), **options)
        return untethered
    started = threading.Event()
    outcome: list[subprocess.Popen[bytes] | BaseException] = []

    def run() -> None:
        try:
            process: Any = subprocess.Popen(tethered(argv), **options)
        except BaseException as error:  # noqa: BLE001 - raised by the caller below
            outcome.append(error)
            return
        else:
            outcome.append(process)
        finally:
            started.set()
        try:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            return  # wait() was called elsewhere

    threading.Thread(target=run, name="tether", daemon=True).start()
    started.wait()
    [result] = outcome
    if isinstance(result, BaseException):
        raise result
    return result
