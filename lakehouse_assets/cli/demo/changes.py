"""What happens in the demo's archive between its two runs: a new period, a rewritten object, a withdrawn one."""

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
    """What one change did to a dataset's files: bodies before and after, None where there are none."""

    dataset: DemoDataset
    period: Period
    before: dict[str, bytes]
    after: dict[str, bytes]

    @property
    def objects(self) -> list[str]:
        """Its objects' keys, without sidecars."""
        parse = self.dataset.dataset.source.parse
        parsed = ((key, parse(key)) for key in sorted(self.before | self.after))
        return [key for key, read in parsed if not (isinstance(read, ParsedKey) and read.is_sidecar)]


@dataclass(frozen=True, slots=True)
class Changes:
    """Each None where the tree is too small for it."""

    added: Change | None
    rewritten: Change
    removed: Change | None


def change_archive(bucket: Bucket, published: Published, *, generated: bool) -> Changes:
    """Publish a period more, rewrite an object, withdraw another; each in a dataset of its own if there are so many."""
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
    """The period after the last one, or else the one before the first."""
    last, first = dataset.periods[-1], dataset.periods[0]
    candidates = (last.next(), first.shifted(-1))
    period = next((each for each in candidates if may_exist(dataset.dataset, each)), None)
    if period is None:
        return None
    files = _generated(dataset, period) if generated else _renamed(dataset, last, period, bodies)
    return Change(dataset, period, {}, {file.key: file.body for file in files})


def _generated(dataset: DemoDataset, period: Period) -> list[SampleFile]:
    name = (dataset.dataset.market, dataset.dataset.data_type)
    [sample] = [each for each in SAMPLES if (each.market, each.data_type) == name]
    return list(sample.files(period.start, period.start))


def _renamed(dataset: DemoDataset, model: Period, period: Period, bodies: Bodies) -> list[SampleFile]:
    """The files of another period under this one's names: new files cannot be had offline."""
    files = []
    known = bodies(dataset.objects[model])
    source = dataset.dataset.source
    for key in dataset.objects[model]:
        parsed = source.parse(key)
        if isinstance(parsed, ParsedKey):
            new = dataset.dataset.layout.key_of(
                symbol=parsed.symbol, interval=parsed.interval, period=period, part=parsed.part
            )
            files.append(SampleFile(new, known[key]))
            if source.sidecar_of(key) in known:
                files.append(sidecar_of(new, known[key], source))
    return files


def _rewritten(key: str, before: dict[str, bytes]) -> dict[str, bytes]:
    """The same files with one byte of the object's changed, and its sidecar true to it. Sizes stay.

    The byte is the minute of packing in a zip's first header: as when an exchange packs anew.
    """
    body = bytearray(before[key])
    body[min(10, len(body) - 1)] ^= 0x20
    old, new = (hashlib.sha256(content).hexdigest().encode() for content in (before[key], body))
    return {name: bytes(body) if name == key else content.replace(old, new) for name, content in before.items()}
