"""Folders that tests read: the project's, and the samples that lie beside it (a checkout may be without them)."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
SHARED = ROOT.parent / "shared"
SAMPLES = SHARED / "archive_samples"
