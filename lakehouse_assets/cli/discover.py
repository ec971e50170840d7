"""``lakehouse discover``: show what an exchange publishes, and write a matrix of it. Writes nothing to the lake."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from rich.markup import escape

from lakehouse_assets.archive.catalog.catalog import Catalog, CatalogDepth, against_matrix, changes_between
from lakehouse_assets.archive.catalog.walk import discover
from lakehouse_assets.archive.exchanges import exchange_named
from lakehouse_assets.archive.matrix import ArchiveMatrix, load_matrix
from lakehouse_assets.cli import output
from lakehouse_assets.errors import InputError, StoreError
from lakehouse_assets.lake.catalog_store import read_catalog
from lakehouse_assets.settings import Settings, load_settings

ROWS = 40


@dataclass(frozen=True, slots=True)
class DiscoverOptions:
    """The command's arguments."""

    exchange: str
    market: str | None
    data_type: str | None
    exact: bool
    concurrency: int
    write_matrix: Path | None
    force: bool


def run_discover(options: DiscoverOptions, *, as_json: bool) -> int:
    """Walk the archive and print its contents, changes and differences from the matrix. Returns 0."""
    settings = load_settings()
    exchange = exchange_named(options.exchange)
    if options.write_matrix is not None:
        _check_writable(options.write_matrix, force=options.force)
    wanted = load_matrix(settings.matrix)
    catalog = discover(
        exchange.name,
        settings.source.bucket(exchange),
        markets=None if options.market is None else [options.market],
        data_types=None if options.data_type is None else [options.data_type],
        depth=CatalogDepth.EXACT if options.exact else CatalogDepth.SHALLOW,
        concurrency=options.concurrency,
    )
    before = _last(settings, exchange.name)
    changes = None if before is None else changes_between(before, catalog)
    differences = against_matrix(catalog, wanted)
    if options.write_matrix is not None:
        _write_matrix(catalog, options.write_matrix, force=options.force)
    if as_json:
        output.print_json(_document(catalog, changes, differences))
    else:
        _print(catalog, before, changes, differences)
        if options.write_matrix is not None:
            output.stdout().print(
                escape(f"Wrote {options.write_matrix}; use it with LAKEHOUSE_MATRIX."), soft_wrap=True
            )
    return 0


def _last(settings: Settings, exchange: str) -> Catalog | None:
    """The last catalog in the lake; None without a lake, and where it cannot be read, since only changes need it."""
    if settings.lake.bucket is None:
        return None
    try:
        return read_catalog(settings.lake.lake(), exchange)
    except StoreError as error:
        output.stderr().print(escape(f"Changes since the last catalog cannot be shown: {error}"), soft_wrap=True)
        return None


# The matrix


def matrix_yaml(matrix: ArchiveMatrix, catalog: Catalog) -> str:
    """The matrix as YAML; load_matrix reads it back unchanged."""
    entries = []
    for entry in matrix.entries:
        fields: dict[str, Any] = {"dataset": entry.dataset.name}
        if entry.intervals:
            fields["intervals"] = list(entry.intervals)
        entries.append(fields | {"first_period": str(entry.first_period)})
    head = (
        f"# Datasets that {catalog.exchange} published on {catalog.taken_at:%Y-%m-%d %H:%M} UTC "
        f"({catalog.depth} catalog), with all their symbols.\n"
        "# Remove what you do not need: `lakehouse plan` shows what a dataset costs.\n\n"
    )
    return head + yaml.safe_dump({"datasets": entries}, sort_keys=False, default_flow_style=None, width=120)


def _check_writable(path: Path, *, force: bool) -> None:
    """Raises InputError. Called before any request to the exchange."""
    if path.exists() and not force:
        raise InputError(f"{path} already exists; name another file, or overwrite it with --force.")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InputError(f"{path} cannot be written: name a file in an existing folder.")


def _write_matrix(catalog: Catalog, path: Path, *, force: bool) -> None:
    text = matrix_yaml(catalog.matrix(), catalog)
    try:
        if force:
            path.with_name(f".{path.name}.part").write_text(text, encoding="utf-8")
            path.with_name(f".{path.name}.part").replace(path)
        else:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error


# Output


def _document(catalog: Catalog, changes: pl.DataFrame | None, differences: pl.DataFrame) -> dict[str, Any]:
    return {
        "exchange": catalog.exchange,
        "taken_at": catalog.taken_at.isoformat(),
        "depth": catalog.depth.value,
        "requests": catalog.requests,
        "seconds": round(catalog.seconds, 3),
        "datasets": _plain(catalog.datasets()),
        "strays": _plain(catalog.unrecognized.drop("exchange")),
        "changes": None if changes is None else _plain(changes),
        "against_matrix": _plain(differences),
    }


def _plain(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return [
        {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in row.items()}
        for row in frame.to_dicts()
    ]


def _print(catalog: Catalog, before: Catalog | None, changes: pl.DataFrame | None, differences: pl.DataFrame) -> None:
    console = output.stdout()
    shown = output.table(
        f"Published by {catalog.exchange} ({catalog.depth})",
        ["dataset", "state", "intervals", "first", "newest"],
        ["symbols", "objects", "bytes"],
    )
    for row in catalog.datasets().to_dicts():
        approximately = "" if row["exact"] else "~"
        shown.add_row(
            row["dataset"],
            row["state"] or "?",
            ", ".join(row["intervals"]),
            str(row["first"] or ""),
            str(row["newest"] or ""),
            f"{row['symbols']:,}",
            "?" if row["objects"] is None else f"{approximately}{row['objects']:,}",
            "?" if row["bytes"] is None else f"{approximately}{output.size(row['bytes'])}",
        )
    console.print(shown)
    for row in catalog.unrecognized.head(ROWS).to_dicts():
        count = f"{row['objects']:,}" if row["exact"] else f"at least {row['objects']:,}"
        place = repr(row["prefix"]) if row["prefix"] else "the root"
        console.print(
            escape(f"Unrecognized keys below {place}: {count}, such as {row['example']!r}: {row['reason']}."),
            soft_wrap=True,
        )
    if before is not None and changes is not None:
        _print_changes(f"Since the catalog of {before.taken_at:%Y-%m-%d %H:%M} UTC", changes)
    _print_changes("Compared with the matrix", differences)
    console.print(f"{catalog.requests:,} requests, {catalog.seconds:.1f} s.")


def _print_changes(title: str, changes: pl.DataFrame) -> None:
    console = output.stdout()
    if changes.is_empty():
        console.print(f"{title}: no difference.")
        return
    shown = output.table(title, ["change", "name", "datasets", "last seen"])
    for row in changes.head(ROWS).to_dicts():
        shown.add_row(row["kind"], escape(row["name"]), ", ".join(row["datasets"]), str(row["since"] or ""))
    console.print(shown)
    if changes.height > ROWS:
        console.print(f"and {changes.height - ROWS:,} more; --json lists all.")
