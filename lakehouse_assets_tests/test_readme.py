"""The README's code: everything that can run here runs, the rest is listed with a reason, and links resolve."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
import yaml

from lakehouse_assets.archive.exchanges import EXCHANGES
from lakehouse_assets.archive.matrix import load_matrix
from lakehouse_assets.embedded.samples.archive import sample_files, upload
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore
from lakehouse_assets.orchestration.dagster_tags import range_tags
from lakehouse_assets.settings import Settings, variables
from lakehouse_assets_tests.paths import ROOT
from lakehouse_assets_tests.world import lake_settings

README = ROOT / "README.md"
PAGES = [README, ROOT / ".github/CONTRIBUTING.md", *sorted((ROOT / "deploy/docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)[ ]?(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

NOT_RUN = {
    "python3 -m venv .venv && . .venv/bin/activate": "the project's own environment, so that uv run takes it",
    "pip install uv && uv run lakehouse demo": "cli/demo/test_run.py runs it",
    "pip install uv && uv run --dev pytest": "runs this test",
    "uv run lakehouse up": "cli/up/test_run.py runs it",
    "export LAKEHOUSE_LAKE_BUCKET=my-lakehouse LAKEHOUSE_LAKE_REGION=ap-northeast-1": "needs AWS",
    "export LAKEHOUSE_LAKE_BUCKET=lake LAKEHOUSE_LAKE_ENDPOINT_URL=https://minio.example.com:9000": "needs MinIO",
    "export LAKEHOUSE_LAKE_ACCESS_KEY_ID=... LAKEHOUSE_LAKE_SECRET_ACCESS_KEY=...": "holds no keys",
    "export LAKEHOUSE_LAKE_BUCKET=lake LAKEHOUSE_LAKE_REGION=auto "
    "LAKEHOUSE_LAKE_ENDPOINT_URL=https://<account id>.r2.cloudflarestorage.com": "needs Cloudflare",
    "uv run lakehouse doctor": "cli/test_doctor.py runs it",
}
"""Commands of fences without the tag ``run``, and why no test executes them here."""


@dataclass(frozen=True)
class Fence:
    language: str
    tag: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The commands of a shell fence: comments removed, continued lines joined."""
        lines = self.text.replace("\\\n", " ").splitlines()
        stripped = (re.sub(r"\s+# .*$", "", re.sub(r"^#.*$", "", line)).strip() for line in lines)
        return [re.sub(r"\s+", " ", line) for line in stripped if line]


def fences() -> list[Fence]:
    return [Fence(*match.groups()) for match in FENCE.finditer(README.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An archive with the data of the README's examples (two symbols in January 2024), and an empty lake."""
    folder = tmp_path_factory.mktemp("readme")
    matrix = folder / "matrix.yaml"
    matrix.write_text(yaml.safe_dump({"datasets": [{"dataset": "binance/um/klines/daily", "intervals": ["1m", "1h"]}]}))
    with EmbeddedStore(source_buckets=[exchange.bucket for exchange in EXCHANGES.values()]) as store:
        files = sample_files(
            "um", "klines", "daily",
            symbols=["BTCUSDT", "ETHUSDT"], intervals=["1m", "1h"], first=date(2024, 1, 1), last=date(2024, 1, 3),
        )  # fmt: skip
        upload(store.admin_bucket("data.binance.vision"), files)
        yield {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(folder),
            "LAKEHOUSE_MATRIX": str(matrix),
            **lake_settings(store, "readme"),
        }


MATERIALIZE_THE_TABLE = f"""
import warnings; warnings.simplefilter("ignore")
import dagster as dg
from lakehouse_assets.definitions import defs
repository = defs().get_repository_def()
key = dg.AssetKey(["binance", "um", "klines", "table"])
job = repository.get_implicit_job_def_for_assets([key]).get_subset(asset_selection={{key}})
tags = {range_tags("2024-01-01", "2024-01-03")}
assert job.execute_in_process(instance=dg.DagsterInstance.ephemeral(), tags=tags).success
"""


def test_tagged_code_runs_in_the_order_of_the_page(environment: dict[str, str], tmp_path: Path) -> None:
    ran = []
    for fence in fences():
        if fence.tag != "run":
            continue
        if fence.language == "python":
            if "read_table" in fence.text:
                _run([sys.executable, "-c", MATERIALIZE_THE_TABLE], environment, tmp_path)
            _run([sys.executable, "-c", fence.text], environment, tmp_path)
            ran.append("python")
            continue
        for command in fence.commands:
            _run(shlex.split(command), environment, tmp_path)
            ran.append(command.split()[1])
    assert {
        "plan",
        "sync",
        "adopt",
        "rebuild-manifests",
        "coverage",
        "verify",
        "python",
        "tables",
        "query",
        "export",
    } == set(ran)


def _run(argv: list[str], environment: dict[str, str], folder: Path) -> None:
    done = subprocess.run(argv, env=environment, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{shlex.join(argv)}\n{done.stdout}{done.stderr}"


def test_every_untagged_command_is_listed_with_a_reason() -> None:
    untagged = {
        command for fence in fences() if fence.language == "sh" and fence.tag != "run" for command in fence.commands
    }
    assert untagged == set(NOT_RUN)
    assert {fence.language for fence in fences() if fence.tag != "run"} == {"sh", "yaml"}


def test_the_matrix_of_the_readme_loads(tmp_path: Path) -> None:
    [text] = [fence.text for fence in fences() if fence.language == "yaml"]
    path = tmp_path / "matrix.yaml"
    path.write_text(text, encoding="utf-8")
    [entry] = load_matrix(path).entries
    assert entry.dataset.name == "binance/um/klines/daily"


def test_every_relative_link_resolves() -> None:
    broken = [
        f"{page.name}: {target}{anchor}"
        for page in PAGES
        for target, anchor in re.findall(r"\]\((?!https?://)([^)#]*)(#[^)]+)?\)", page.read_text(encoding="utf-8"))
        if not (path := page.parent / target if target else page).exists() or (anchor and anchor not in anchors(path))
    ]
    assert broken == []


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub derives them: lower case, no punctuation, dashes for spaces."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {"#" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_setting_that_a_page_names_exists() -> None:
    known = set(variables(Settings))
    named = set()
    for page in PAGES:
        named |= set(re.findall(r"\bLAKEHOUSE_[A-Z0-9_]+[A-Z0-9]\b(?!_?\*)", page.read_text(encoding="utf-8")))
    others = {"LAKEHOUSE_DEBUG", "LAKEHOUSE_TEST_SERVERS", "LAKEHOUSE_TEST_SCREENSHOTS"}
    assert (
        sorted(name for name in named - known - others if not any(variable.startswith(name) for variable in known))
        == []
    )
