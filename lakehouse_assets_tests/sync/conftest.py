"""s5cmd replaced by a script of a test's own."""

from __future__ import annotations

import stat
import textwrap
from pathlib import Path

import pytest

from lakehouse_assets.sync.movers import s5cmd


@pytest.fixture
def impostor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a shell script in s5cmd's place."""

    def install(script: str) -> None:
        path = tmp_path / "s5cmd"
        path.write_text(f"#!/bin/sh\n{textwrap.dedent(script)}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(s5cmd, "executable", lambda: str(path))

    return install
