"""Processor seconds until a process can work: imports, definitions, a run's process, `dg check defs`, commands.

Processor seconds are user and system time of a new process and its children. A run's process is what a run launcher
starts, ``dagster api execute_run``, on an instance in SQLite; beside the definitions it has an asset whose body writes
down what was used until then. Since a lazy import only postpones what a body needs, a real archive run is measured to
its end as well, over a period that is already in the lake. Beside each way of ours stands Dagster's own share: the same
process with nothing in it but one empty asset.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

import dagster as dg
import yaml

from lakehouse_assets.archive.dataset import Dataset
from lakehouse_assets.orchestration.dagster_tags import range_tags
from lakehouse_assets_tests.benchmarks.support.bench import FIRST, Bench, Shape, bench
from lakehouse_assets_tests.benchmarks.support.measure import Row, Sample, interleaved, timed
from lakehouse_assets_tests.benchmarks.support.run_process import PROBED
from lakehouse_assets_tests.dagster_internals import (
    ExecuteRunArgs,
    InstanceRef,
    JobPythonOrigin,
    ModuleCodePointer,
    RepositoryPythonOrigin,
    create_run_for_test,
)
from lakehouse_assets_tests.matrices import every_dataset
from lakehouse_assets_tests.paths import ROOT
from lakehouse_assets_tests.world import KLINES

SHAPE = Shape(1, 1, 1_000)
_PROGRAMS = Path(sys.executable).parent
_PROBES = "lakehouse_assets_tests.benchmarks.support.run_process"
_BUILD = """
import time
from lakehouse_assets.definitions import defs
started = time.process_time()
defs()
print(time.process_time() - started)
"""
_PROJECT = "[tool.dg]\ndirectory_type = 'project'\n[tool.dg.project]\nroot_module = 'floor'\n"
_FLOOR = "import dagster as dg\n\n\n@dg.asset\ndef probe() -> None: ...\n\n\ndefs = dg.Definitions(assets=[probe])\n"


def run(repeat: int) -> list[Row]:
    """One row per process; the ratio is to Dagster's own share of the same process."""
    with bench(SHAPE) as archive, tempfile.TemporaryDirectory() as folder:
        place = _Place(Path(folder), archive)
        every = {"LAKEHOUSE_MATRIX": str(place.all)}
        place.execute("lakehouse_assets.definitions", "defs", place.archive_run)  # copies the period
        ways: dict[tuple[str, str], Callable[[], float]] = {
            ("import", "dagster"): lambda: place.python("import dagster"),
            ("import", "ours"): lambda: place.python("import lakehouse_assets.definitions"),
            ("build definitions", "packaged matrix"): lambda: place.printed(_BUILD),
            ("build definitions", "every dataset"): lambda: place.printed(_BUILD, **every),
            ("run, until the body", "dagster"): lambda: place.probe("floor"),
            ("run, until the body", "ours"): lambda: place.probe("ours"),
            ("run, until the body", "ours, every dataset"): lambda: place.probe("ours", **every),
            ("run, to its end", "archive, nothing to copy"): lambda: place.execute(
                "lakehouse_assets.definitions", "defs", place.archive_run
            ),
            ("dg check defs", "dagster"): lambda: place.command("dg", "check", "defs", cwd=place.project),
            ("dg check defs", "ours"): lambda: place.command("dg", "check", "defs", cwd=ROOT),
            ("command", "lakehouse --help"): lambda: place.command("lakehouse", "--help"),
            ("command", "lakehouse plan, a day"): lambda: place.command(
                "lakehouse", "plan", KLINES, "--from", str(FIRST), "--to", str(FIRST)
            ),
        }
        samples = interleaved({str(name): _sampled(way) for name, way in ways.items()}, repeat)
    used = {name: median(sample.processor for sample in samples[str(name)]) for name in ways}
    rows = []
    for (case, way), value in used.items():
        floor = used.get((case, "dagster"))
        note = _spread(samples[str((case, way))])
        rows.append(Row(case, way, value, ratio=value / floor if floor else None, note=note))
    return rows


def _sampled(way: Callable[[], float]) -> Callable[[int], Sample]:
    return lambda _number: Sample(0.0, processor=way())


def _spread(samples: Sequence[Sample]) -> str:
    used = sorted(sample.processor for sample in samples)
    return f"processor, {used[0]:.2f} to {used[-1]:.2f} s"


class _Place:
    """A home of Dagster, matrices, an empty project, and the environment that names them with a lake."""

    def __init__(self, folder: Path, archive: Bench) -> None:
        self.home, self.project, self.all = folder / "home", folder / "project", folder / "all.yaml"
        self.home.mkdir()
        (self.home / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
        (self.project / "floor").mkdir(parents=True)
        (self.project / "pyproject.toml").write_text(_PROJECT, encoding="utf-8")
        (self.project / "floor" / "__init__.py").touch()
        (self.project / "floor" / "definitions.py").write_text(_FLOOR, encoding="utf-8")
        self.all.write_text(yaml.safe_dump(every_dataset()), encoding="utf-8")
        matrix = folder / "matrix.yaml"
        symbols = {"include": [f"{archive.world.tag}*"]}
        entry = {"dataset": KLINES, "intervals": ["1m"], "symbols": symbols, "first_period": str(FIRST)}
        matrix.write_text(yaml.safe_dump({"datasets": [entry]}), encoding="utf-8")
        self._lake = archive.variables(archive.new_lake)
        self.archive_run = {"LAKEHOUSE_MATRIX": str(matrix)}
        self._probed = folder / "probed"

    def python(self, code: str) -> float:
        return self._run([sys.executable, "-c", code])

    def printed(self, code: str, **environment: str) -> float:
        """The processor seconds that the code itself prints."""
        ended = subprocess.run(
            [sys.executable, "-c", code], env=self._environment(environment), capture_output=True, text=True, check=True
        )
        return float(ended.stdout.split()[-1])

    def command(self, program: str, *arguments: str, cwd: Path | None = None) -> float:
        return self._run([str(_PROGRAMS / program), *arguments], cwd=cwd, **self.archive_run if cwd is None else {})

    def probe(self, location: str, **environment: str) -> float:
        """Processor seconds of a run's process until the body of its asset."""
        self.execute(_PROBES, location, environment)
        return float(self._probed.read_text(encoding="utf-8"))

    def execute(self, module: str, attribute: str, environment: Mapping[str, str]) -> float:
        """Processor seconds of a run's process: of the probe, or of the archive's only day."""
        is_probe = module == _PROBES
        key = dg.AssetKey("probe") if is_probe else dg.AssetKey(Dataset.parse(KLINES).asset_key)
        repository = RepositoryPythonOrigin(sys.executable, ModuleCodePointer(module, attribute, str(ROOT)))
        origin = JobPythonOrigin("__ASSET_JOB", repository)
        ref = InstanceRef.from_dir(str(self.home))
        with dg.DagsterInstance.from_ref(ref) as instance:
            run = create_run_for_test(
                instance,
                job_name="__ASSET_JOB",
                asset_selection=frozenset([key]),
                tags={} if is_probe else range_tags(str(FIRST), str(FIRST)),
                job_code_origin=origin,
            )
            arguments = ExecuteRunArgs(origin, run.run_id, ref, set_exit_code_on_failure=True).get_command_args()
            return self._run([str(_PROGRAMS / arguments[0]), *arguments[1:]], **environment)

    def _environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        here = {"DAGSTER_HOME": str(self.home), PROBED: str(self._probed)}
        return os.environ | self._lake | here | environment

    def _run(self, command: Sequence[str], *, cwd: Path | None = None, **environment: str) -> float:
        environ = self._environment(environment)
        return timed(lambda: subprocess.run(command, cwd=cwd, env=environ, capture_output=True, check=True)).processor
