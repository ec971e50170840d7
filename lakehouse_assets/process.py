"""Child processes that do not outlive this process, not even when it is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

# Runs before the program takes its place under the same process id. The parent may have died before
# the request was made, and then no signal would ever come: hence the look at getppid() after it.
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
    """``argv`` so wrapped that the program is killed (SIGKILL) when its starter is gone.

    Process id, exit status, signals, file descriptors and environment are the program's own: the
    wrapper replaces itself by it. A program that cannot be executed exits with 127. It costs about
    10 ms per start. Children that the program starts itself are not covered.

    The kernel ties the signal to the *thread* that starts the program: that thread must live as long
    as the program (it does where it waits for it). Where it does not, start it with `spawn_tethered`.
    Call this in the process that starts the program, right before starting it. On systems other than
    Linux the result is ``argv`` itself.
    """
    if sys.platform != "linux" or not sys.executable:
        return list(argv)
    return [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()), *argv]


def spawn_tethered(argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a tethered program that survives the calling thread, but not this process.

    ``options`` are those of `subprocess.Popen`, and so are the errors raised. A thread of its own
    starts the program and stays until it has ended; it does not reap it, so ``wait``, ``poll`` and
    signals work on the result as on any other.
    """
    if sys.platform != "linux":
        plain: Any = subprocess.Popen(list(argv), **options)
        return plain
    started = threading.Event()
    outcome: list[subprocess.Popen[bytes] | BaseException] = []

    def keep() -> None:
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
            return  # reaped by whoever called wait()

    threading.Thread(target=keep, name="tether", daemon=True).start()
    started.wait()
    [result] = outcome
    if isinstance(result, BaseException):
        raise result
    return result
