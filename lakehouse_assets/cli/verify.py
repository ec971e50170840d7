"""``lakehouse verify``, ``adopt`` and ``rebuild-manifests``: read the lake's copies and record the results."""

from __future__ import annotations

from dataclasses import asdict

from rich.markup import escape

from lakehouse_assets.archive.matrix import DatasetEntry, load_matrix
from lakehouse_assets.cli import output
from lakehouse_assets.cli.progress import Bar, progress_bar
from lakehouse_assets.cli.sync import prepare_sync
from lakehouse_assets.lake.lake import Lake
from lakehouse_assets.lake.states import Integrity
from lakehouse_assets.lake.sync_log import SYNC_LOG_TABLE, rebuild_sync_log
from lakehouse_assets.settings import load_settings
from lakehouse_assets.sync.adopt import adopt, rebuild_manifest
from lakehouse_assets.sync.integrity.verify import OnRead, Reading, Verification, Verifier

PROBLEMS_SHOWN = 20

HISTORY = SYNC_LOG_TABLE.rsplit("/", 1)[-1]
"""Names the history of syncs in place of a dataset."""


def run_verify(dataset: str, first: str, last: str, *, force: bool, as_json: bool) -> int:
    """Read objects that are not verified yet and print the results. Returns 1 if any object is wrong or unread."""
    scope, _engine = prepare_sync(dataset, first, last, None, None)
    with progress_bar("reading the manifest") as bar:
        done = _verifier(scope.entry).verify(scope.entry.dataset, scope.names, force=force, on_read=_shown_on(bar))
    return _report(f"Verified: {scope.entry.dataset}", done, as_json=as_json)


def run_adopt(dataset: str, first: str, last: str, *, as_json: bool) -> int:
    """Record and read the lake's objects without copying any. Returns 1 if any object is wrong or unread."""
    scope, engine = prepare_sync(dataset, first, last, None, None)
    with progress_bar("listing") as bar:
        done = adopt(engine, _verifier(scope.entry), scope, on_read=_shown_on(bar))
    return _report(f"Adopted: {scope.entry.dataset}", done, as_json=as_json)


def run_rebuild(dataset: str, *, as_json: bool) -> int:
    """Add manifest rows for objects that are in the lake but not in the manifest. Returns 0."""
    settings = load_settings()
    if dataset.strip("/") == HISTORY:
        return _rebuild_history(settings.lake.lake(), as_json=as_json)
    entry = load_matrix(settings.matrix).entry(dataset.strip("/"))
    with progress_bar("listing") as bar:

        def on_month(objects: int, total: int) -> None:
            bar.show("recording", objects, total, unit="objects")

        added = rebuild_manifest(settings.lake.lake(), entry, on_month=on_month)
    if as_json:
        output.print_json({"dataset": entry.dataset.name, "rows_added": added})
    else:
        output.stdout().print(
            f"{added} rows were added to the manifest of {entry.dataset}. Their source ETags are unknown until the "
            "next sync, and their checksums until you run: lakehouse verify"
        )
    return 0


def _rebuild_history(lake: Lake, *, as_json: bool) -> int:
    recovered = rebuild_sync_log(lake)
    if as_json:
        output.print_json({"dataset": HISTORY, "rows_added": recovered})
    else:
        output.stdout().print(f"{recovered} rows of the history of syncs were recovered (0 if it was complete).")
    return 0


def _shown_on(bar: Bar) -> OnRead:
    def on_read(reading: Reading) -> None:
        bar.show(
            "reading",
            reading.objects,
            reading.objects_total,
            unit="objects",
            size=reading.bytes,
            size_total=reading.bytes_total,
        )

    return on_read


def _verifier(entry: DatasetEntry) -> Verifier:
    settings = load_settings()
    return Verifier(settings.source.bucket(entry.dataset.source), settings.lake.lake())


def _report(title: str, verification: Verification, *, as_json: bool) -> int:
    failed = bool(verification.complaints or verification.unread)
    if as_json:
        output.print_json({"ok": not failed, **asdict(verification)})
        return int(failed)
    console = output.stdout()
    shown = output.table(title, ["period"], [state.value for state in Integrity])
    for period, counts in sorted(verification.states.items()):
        shown.add_row(period, *(str(counts.get(state.value, 0)) for state in Integrity))
    console.print(shown)
    console.print(
        f"{verification.objects_read} objects read, {output.size(verification.bytes_read)}, "
        f"{verification.seconds:.1f} s."
    )
    for problem in (*verification.complaints, *verification.unread)[:PROBLEMS_SHOWN]:
        advice = "the lake's copy differs; sync again: " if problem.copy_differs else ""
        console.print(escape(f"{problem.state}: {problem.key}: {advice}{problem.note}"), soft_wrap=True)
    return int(failed)
