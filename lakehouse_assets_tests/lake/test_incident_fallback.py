"""The copy of a lake's incidents on local disk is the lake's own, and one that an earlier version wrote is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lakehouse_assets.lake.incident_store import fallback_file
from lakehouse_assets_tests.world import World


def test_two_lakes_that_share_a_folder_have_a_copy_each(world: World, tmp_path: Path) -> None:
    other = replace(world.lake, prefix="other")
    assert fallback_file(tmp_path, world.lake) != fallback_file(tmp_path, other)
    assert fallback_file(tmp_path, world.lake) == fallback_file(tmp_path, replace(world.lake))


def test_a_long_prefix_still_has_a_file(world: World, tmp_path: Path) -> None:
    path = fallback_file(tmp_path, replace(world.lake, prefix="/".join(["mirror"] * 27)))
    path.write_text("{}", encoding="utf-8")
    assert path.exists()


def test_a_copy_under_the_former_name_is_taken_over_once(world: World, tmp_path: Path) -> None:
    former = tmp_path / "incidents.json"
    former.write_text("before", encoding="utf-8")
    path = fallback_file(tmp_path, world.lake)
    assert (path.read_text(encoding="utf-8"), former.exists()) == ("before", False)
    assert not fallback_file(tmp_path, replace(world.lake, prefix="other")).exists()
    former.write_text("later", encoding="utf-8")
    assert fallback_file(tmp_path, world.lake).read_text(encoding="utf-8") == "before"
