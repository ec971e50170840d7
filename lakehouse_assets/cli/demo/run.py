"""``lakehouse demo``: an end-to-end demo on one machine, with every claim checked against the store."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.cli import output
from lakehouse_assets.cli.demo.archive import Published, fill, read_bucket, read_folder
from lakehouse_assets.cli.demo.changes import Change, Changes, change_archive
from lakehouse_assets.cli.demo.claims import Claim, Contents, first_claims, list_lake, second_claims
from lakehouse_assets.cli.demo.runs import DatasetRun, demo_dagster
from lakehouse_assets.cli.up.loopback import keep_to_loopback
from lakehouse_assets.embedded.samples import archive
from lakehouse_assets.embedded.seaweedfs import EmbeddedStore


@dataclass(frozen=True, slots=True)
class Demo:
    """Results of a demo."""

    published: Published
    first: list[DatasetRun]
    changes: Changes
    second: list[DatasetRun]
    claims: list[Claim]
    seconds: float

    @property
    def holds(self) -> bool:
        return all(claim.holds for claim in self.claims)


def run_demo(*, samples: Path | None, days: int, as_json: bool) -> int:
    """Run the demo and print its results. Returns 1 if a claim is false. Raises InputError for an unusable folder."""
    given = None if samples is None else read_folder(samples)
    started = time.monotonic()
    keep_to_loopback()
    with output.stderr().status("Starting the embedded object store") as status:
        demo = _run(samples, given, days, started, status.update)
    if as_json:
        output.print_json(_document(demo, samples))
    else:
        _print(output.stdout(), demo, samples)
    return 0 if demo.holds else 1


def _run(
    samples: Path | None, given: Published | None, days: int, started: float, show_status: Callable[[str], None]
) -> Demo:
    bucket = (given.exchange if given else exchange_named(archive.EXCHANGE)).bucket
    with (
        EmbeddedStore(source_buckets=[bucket]) as store,
        tempfile.TemporaryDirectory(prefix="lakehouse-demo-") as home,
    ):
        source, lake = store.source(bucket), store.lake()
        publisher = store.admin_bucket(source.name)
        show_status("Publishing the sample archive")
        fill(publisher, samples, days)
        published = given or read_bucket(source)
        with demo_dagster(Path(home), source, lake) as dagster:
            show_status("Backfilling with Dagster")
            first = [dagster.backfill(dataset, dataset.periods) for dataset in published.datasets]
            claims = first_claims(published, source, lake, first)
            before = list_lake(lake)
            _wait_for_next_second(before)
            show_status("Changing the archive and backfilling again")
            changes = change_archive(publisher, published, generated=samples is None)
            added = changes.added
            second = [
                dagster.backfill(
                    dataset, [*dataset.periods, *([added.period] if added and added.dataset is dataset else [])]
                )
                for dataset in published.datasets
            ]
        claims += second_claims(published, changes, lake, before, second)
        return Demo(published, first, changes, second, claims, time.monotonic() - started)


def _wait_for_next_second(contents: Contents) -> None:
    """Listings give times in whole seconds: an object that is copied again must get another time."""
    time.sleep(max(0.0, min(1.1, contents.newest + 1.1 - time.time())))


# For people


def _print(console: Console, demo: Demo, samples: Path | None) -> None:
    origin = "a generated archive" if samples is None else str(samples)
    console.print(escape(f"{len(demo.published.sizes)} files of {origin}, published in an embedded object store."))
    if demo.published.others:
        console.print(f"{demo.published.others} of them are not archive objects and are not mirrored.")
    console.print(_first_table(demo))
    console.print(_second_table(demo))
    for claim in demo.claims:
        mark = "[green]true [/]" if claim.holds else "[bold red]FALSE[/]"
        console.print(f"{mark}  {escape(claim.text)} [dim]({escape(claim.found)})[/]", soft_wrap=True)
    for run in (*demo.first, *demo.second):
        for failure in run.failures:
            console.print(escape(f"{run.dataset}: {failure}"), soft_wrap=True)
    console.print(f"{demo.seconds:.1f} s. Next: lakehouse up")


def _first_table(demo: Demo) -> Any:
    numbers = ("partitions", "objects", "bytes", "mode", "seconds", "complete")
    shown = output.table("First backfill with Dagster", ["dataset"], numbers)
    for run in demo.first:
        shown.add_row(
            run.dataset,
            str(run.partitions),
            str(run.objects),
            output.size(run.bytes),
            ", ".join(run.modes) or "-",
            f"{run.seconds:.2f}",
            f"{len(run.complete)}/{run.partitions}",
        )
    return shown


def _second_table(demo: Demo) -> Any:
    texts = ("dataset", "change in the archive")
    numbers = ("partitions", "objects", "copied", "bytes copied", "seconds", "complete")
    shown = output.table("Second backfill, after the archive changed", texts, numbers)
    for run in demo.second:
        descriptions = [
            text for name, change, text in _described(demo.changes) if change.dataset.dataset.name == run.dataset
        ]
        shown.add_row(
            run.dataset,
            escape("; ".join(descriptions) or "nothing"),
            str(run.partitions),
            f"{run.objects} + {run.vanished} kept" if run.vanished else str(run.objects),
            str(run.copied),
            output.size(run.bytes_copied),
            f"{run.seconds:.2f}",
            f"{len(run.complete)}/{run.partitions}",
        )
    return shown


def _described(changes: Changes) -> list[tuple[str, Change, str]]:
    """Name, change and description of each change."""
    described = []
    if changes.added:
        count = len(changes.added.objects)
        described.append(("added", changes.added, f"{changes.added.period} appeared ({count} objects)"))
    described.append(("rewritten", changes.rewritten, f"{_file(changes.rewritten)} was rewritten, same size"))
    if changes.removed:
        described.append(("removed", changes.removed, f"{_file(changes.removed)} was withdrawn"))
    return described


def _file(change: Change) -> str:
    return change.objects[0].rsplit("/", 1)[-1]


# For programs


def _document(demo: Demo, samples: Path | None) -> dict[str, Any]:
    return {
        "ok": demo.holds,
        "samples": None if samples is None else str(samples),
        "files": len(demo.published.sizes),
        "not_archive_objects": demo.published.others,
        "first_backfill": [_run_document(run) for run in demo.first],
        "changes": {
            name: {
                "dataset": change.dataset.dataset.name,
                "period": str(change.period),
                "objects": change.objects,
            }
            for name, change, _ in _described(demo.changes)
        },
        "second_backfill": [_run_document(run) for run in demo.second],
        "claims": [{"claim": claim.text, "holds": claim.holds, "found": claim.found} for claim in demo.claims],
        "seconds": round(demo.seconds, 3),
    }


def _run_document(run: DatasetRun) -> dict[str, Any]:
    return {
        "dataset": run.dataset,
        "partitions": run.partitions,
        "runs": run.runs,
        "materialized": len(run.materialized),
        "complete": len(run.complete),
        "objects": run.objects,
        "objects_copied": run.copied,
        "sidecars_copied": run.sidecars,
        "objects_vanished": run.vanished,
        "bytes": run.bytes,
        "bytes_copied": run.bytes_copied,
        "modes": run.modes,
        "seconds": round(run.seconds, 3),
        "failures": run.failures,
    }
