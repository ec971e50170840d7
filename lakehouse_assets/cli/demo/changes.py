"""Changes to the demo's archive between the two backfills: a new period, a rewritten and a withdrawn object."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import obstore

from lakehouse_assets.archive.bucket import Bucket
from lakehouse_assets.archive.exchanges.grammar import ParsedKey
from lakehouse_assets.archive.period import Period
from lakehouse_assets.cli.demo.archive import SAMPLES, DemoDataset, Published, may_exist
from lakehouse_assets.embedded.samples.archive import SampleFile, upload
from lakehouse_assets.embedded.samples.objects import sidecar_of

Bodies = Callable[[Sequence[str]], dict[str, bytes]]


@dataclass(frozen=True, slots=True)
class Change:
    """One change to a dataset's files: their bodies before and after it."""

    dataset: DemoDataset
    period: Period
    before: dict[str, bytes]
    after: dict[str, bytes]

    @property
    def objects(self) -> list[str]:
        """Keys of the changed objects, without sidecars."""
        parse = self.dataset.dataset.source.parse
        parsed_keys = ((key, parse(key)) for key in sorted(self.before | self.after))
        return [key for key, parsed in parsed_keys if not (isinstance(parsed, ParsedKey) and parsed.is_sidecar)]


@dataclass(frozen=True, slots=True)
class Changes:
    """All changes; one is None where the archive is too small for it."""

    added: Change | None
    rewritten: Change
    removed: Change | None


def change_archive(bucket: Bucket, published: Published, *, generated: bool) -> Changes:
    """Publish a new period, rewrite an object, and withdraw another; in different datasets if there are three."""
    store = bucket.object_store()
    datasets = published.datasets
    sidecar_key = published.exchange.sidecar_of

    def bodies(keys: Sequence[str]) -> dict[str, bytes]:
        files = [file for key in keys for file in (key, sidecar_key(key)) if file in published.sizes]
        return {key: bytes(store.get(key).bytes()) for key in files if key}

    added = _added(datasets[0], bodies, generated=generated)
    rewritten_in = datasets[1 % len(datasets)]
    rewritten_key = rewritten_in.objects[rewritten_in.periods[0]][0]
    before = bodies([rewritten_key])
    rewritten = Change(rewritten_in, rewritten_in.periods[0], before, _rewritten(rewritten_key, before))
    removed_in = datasets[2 % len(datasets)]
    removable = [
        (period, key) for period in removed_in.periods for key in removed_in.objects[period] if key != rewritten_key
    ]
    removed = None
    if removable:
        period, key = removable[-1]
        removed = Change(removed_in, period, bodies([key]), {})
        obstore.delete(store, sorted(removed.before))
    upload(
        bucket,
        [SampleFile(key, body) for change in (added, rewritten) if change for key, body in change.after.items()],
    )
    return Changes(added, rewritten, removed)


def _added(dataset: DemoDataset, bodies: Bodies, *, generated: bool) -> Change | None:
    """A new period: the one after the last, or else the one before the first."""
    last, first = dataset.periods[-1], dataset.periods[0]
    candidates = (last.next(), first.shifted(-1))
    period = next((candidate for candidate in candidates if may_exist(dataset.dataset, candidate)), None)
    if period is None:
        return None
    files = _generated(dataset, period) if generated else _renamed(dataset, last, period, bodies)
    return Change(dataset, period, {}, {file.key: file.body for file in files})


def _generated(dataset: DemoDataset, period: Period) -> list[SampleFile]:
    name = (dataset.dataset.market, dataset.dataset.data_type)
    [sample] = [sample for sample in SAMPLES if (sample.market, sample.data_type) == name]
    return list(sample.files(period.start, period.start))


def _renamed(dataset: DemoDataset, model: Period, period: Period, bodies: Bodies) -> list[SampleFile]:
    """The files of another period under the names of this one, since new files are not available offline."""
    files = []
    known_bodies = bodies(dataset.objects[model])
    source = dataset.dataset.source
    for key in dataset.objects[model]:
        parsed = source.parse(key)
        if isinstance(parsed, ParsedKey):
            new_key = dataset.dataset.layout.key_of(
                symbol=parsed.symbol, interval=parsed.interval, period=period, part=parsed.part
            )
            files.append(SampleFile(new_key, known_bodies[key]))
            if source.sidecar_of(key) in known_bodies:
                files.append(sidecar_of(new_key, known_bodies[key], source))
    return files


def _rewritten(key: str, before: dict[str, bytes]) -> dict[str, bytes]:
    """The files with one byte of the object changed and its sidecar adapted. Sizes stay the same.

    The byte is part of the modification time in a zip's first header, as if the exchange had packed the file again.
    """
    body = bytearray(before[key])
    body[min(10, len(body) - 1)] ^= 0x20
    old, new = (hashlib.sha256(content).hexdigest().encode() for content in (before[key], body))
    return {name: bytes(body) if name == key else content.replace(old, new) for name, content in before.items()}
