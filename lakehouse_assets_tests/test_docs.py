"""Every module, path and folder of the project that README, docs and deployment files name exists."""

from __future__ import annotations

import re
from pathlib import Path
from pkgutil import resolve_name

from lakehouse_assets_tests.paths import DEPLOY, ROOT

CONTRIBUTING = ROOT / ".github/CONTRIBUTING.md"
CHANGELOG = DEPLOY / "docs/changelog.md"
PACKAGE = ROOT / "lakehouse_assets"

DOTTED = re.compile(r"(?<![\w/.-])lakehouse_assets(?:_tests)?(?:\.[A-Za-z_]\w*)+")
FROM_ROOT = re.compile(r"(?<![\w/.-])(?:lakehouse_assets(?:_tests)?|deploy|\.ci|\.github)/[\w./-]*\w")
FROM_PACKAGE = re.compile(r"`((?:[a-z_]+/)+[a-z_0-9]+\.(?:py|yaml))(?::\w+)?`")


def pages() -> list[Path]:
    return [ROOT / "README.md", CONTRIBUTING, *sorted((DEPLOY / "docs").glob("*.md"))]


def deployment_files() -> list[Path]:
    names = ("*.yaml", "*.yml", "*.env", "*.py", "*.example", "Dockerfile")
    return sorted(path for name in names for path in DEPLOY.rglob(name))


def current_text(path: Path) -> str:
    """The text of a file; of the changelog without the first cells of its tables, which hold former names."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"^ *\|[^|]*\|", "|", text, flags=re.MULTILINE) if path == CHANGELOG else text


def is_importable(name: str) -> bool:
    """Whether it is a module, or an attribute of one."""
    try:
        resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def missing(path: Path) -> list[str]:
    """Names in a file that nothing in the project has."""
    text = current_text(path)
    names = [
        *(name for name in DOTTED.findall(text) if not is_importable(name)),
        *(name for name in FROM_ROOT.findall(text) if not (ROOT / name).exists()),
        *(name for name in FROM_PACKAGE.findall(text) if not any((top / name).exists() for top in (ROOT, PACKAGE))),
    ]
    return list(dict.fromkeys(names))


def test_every_module_and_path_that_a_page_or_a_deployment_file_names_exists() -> None:
    wrong = [f"{path.relative_to(ROOT)}: {name}" for path in [*pages(), *deployment_files()] for name in missing(path)]
    assert wrong == []


def test_a_wrong_module_and_a_wrong_path_are_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`lakehouse_assets.sync.no_module`, `lakehouse_assets.settings.no_name`, `lakehouse_assets/sync/no_file.py`,"
        " `sync/no_file.py`, but `lakehouse_assets.settings.load_settings`, `lakehouse_assets/sync/`, `sync/plan.py`"
    )
    assert missing(page) == [
        "lakehouse_assets.sync.no_module",
        "lakehouse_assets.settings.no_name",
        "lakehouse_assets/sync/no_file.py",
        "sync/no_file.py",
    ]


def test_the_map_names_every_folder_of_the_package() -> None:
    named = set(re.findall(r"`([a-z_/]+?)/?`", CONTRIBUTING.read_text(encoding="utf-8")))
    folders = {path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("__init__.py")} - {"."}
    assert sorted(folders - named) == []


def test_the_readme_leads_to_every_page_of_the_docs() -> None:
    """Directly, or by way of a page that it links to."""
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8"))
        waiting += [path for target in targets if (path := (page.parent / target).resolve()).is_file()]
    assert [page.name for page in pages() if page not in reached] == []
