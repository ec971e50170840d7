"""s5cmd replaced by a test's shell script."""

from __future__ import annotations

import stat
import textwrap
from pathlib import Path

import pytest

from lakehouse_assets.sync.movers import s5cmd


@pytest.fixture
def impostor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Installs a shell script in place of s5cmd."""

    def install(script: str) -> None:
        path = tmp_path / "s5cmd"
        path.write_text(f"#!/bin/sh\n{textwrap.dedent(script)}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(s5cmd, "executable", lambda: str(path))

    return install
