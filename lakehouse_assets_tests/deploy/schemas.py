"""JSON schemas that check-jsonschema brings, for files whose format is defined elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def schema_errors(schema: str, path: Path) -> str:
    """What check-jsonschema reports for a file by one of its built-in schemas; empty for a valid file."""
    program = Path(sys.executable).parent / "check-jsonschema"
    argv = [str(program), "--builtin-schema", schema, str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr
