"""Executes the build stage of deploy/docker/Dockerfile without a container engine.

Its COPY, ENV, WORKDIR and RUN instructions are carried out one after the other in a folder that stands for the
root of the file system: every absolute path of the image is a path below it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lakehouse_assets_tests.conftest import CERTIFICATES
from lakehouse_assets_tests.deploy.rendered import DEPLOY

DOCKERFILE = DEPLOY / "docker/Dockerfile"
REPOSITORY = DEPLOY.parent
_OF_THE_IMAGE = ("/opt/", "/src")


@dataclass(frozen=True)
class Instruction:
    name: str
    arguments: str


def stage(number: int) -> list[Instruction]:
    """The instructions of a stage, after its FROM."""
    stages: list[list[Instruction]] = []
    for instruction in _instructions():
        if instruction.name == "FROM":
            stages.append([])
        elif stages:
            stages[-1].append(instruction)
    return stages[number]


def execute(instructions: list[Instruction], root: Path) -> None:
    """Run the instructions below ``root``. Raises AssertionError with the output of a command that fails."""
    # What this machine needs to reach its registries, and nothing else of the test's environment.
    ours = {"VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONPATH", "PYTHONHOME", "SSL_CERT_FILE"}
    variables = {name: value for name, value in os.environ.items() if name not in ours} | CERTIFICATES
    folder = root
    for instruction in instructions:
        match instruction.name:
            case "WORKDIR":
                folder = Path(_placed(instruction.arguments, root))
                folder.mkdir(parents=True, exist_ok=True)
            case "ENV":
                for assignment in shlex.split(instruction.arguments):
                    name, _, value = assignment.partition("=")
                    variables[name] = _placed(value, root)
            case "COPY":
                *sources, target = instruction.arguments.split()
                for source in sources:
                    _copy(REPOSITORY / source, folder / target)
            case "RUN":
                done = subprocess.run(
                    ["sh", "-ec", _placed(instruction.arguments, root)],
                    cwd=folder,
                    env=variables,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, f"{instruction.arguments}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
            case other:
                raise AssertionError(f"{other} is not known here")


def _instructions() -> Iterator[Instruction]:
    text = "\n".join(
        line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")
    )
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, arguments = line.strip().partition(" ")
            yield Instruction(name, " ".join(arguments.split()))


def _placed(text: str, root: Path) -> str:
    for path in _OF_THE_IMAGE:
        text = text.replace(path, f"{root}{path}")
    return text


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target / source.name)
