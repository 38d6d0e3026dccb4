"""What a data set's files hold, before a run is made of them: counts, balance, and what is wrong.

Every file's header is read, a sample or all are decoded. Headers are read by threads, in parts of a bounded size. What
comes out is plain data (`Report`); `benchmarks.checks.dataset_page` makes pictures and a page of it. Names and
reasons come from
other people's files: control characters are replaced here, and whoever shows them must escape markup.

Known limits: pixels behind a sound header are only looked at in the sample; two images with the same pixels are not
noticed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from interp_core.datasets import SPLITS, FileDataset, Finding, Record, SplitName
from interp_core.datasets.files.images import UnreadableImage, picture_size, read_image, read_mask
from interp_core.datasets.files.sampling import place

PART = 256
MOST_FOLDERS = 6
THREADS = 8
# How far the proportions of a mask, or of the size that boxes refer to, may be from those of the image.
PROPORTION = 0.02

Size = tuple[int, int]


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        name: of the data set.
        title: of the data set, for people.
        root: its folder.
        layout: how the folder is laid out, a line each.
        classes: names.
        counts: images of each split and class; an image of several classes counts in each.
        images: images of each split.
        with_evidence: images of each split with a box or mask.
        sizes: the commonest sizes (width, height) and how many images have them, and how many sizes there are.
        opened: images whose header was read, and how many of them were decoded.
        unreadable: images that cannot be read.
        findings: all that is wrong, unreadable images first.
        seconds: the check took.
        multi_label: whether an image may show any number of classes.
    """

    name: str
    title: str
    root: Path
    layout: tuple[str, ...]
    classes: tuple[str, ...]
    counts: dict[SplitName, Counter[int]]
    images: dict[SplitName, int]
    with_evidence: dict[SplitName, int]
    sizes: tuple[list[tuple[Size, int]], int]
    opened: tuple[int, int]
    unreadable: int
    findings: tuple[Finding, ...]
    seconds: float
    multi_label: bool

    def kinds(self) -> list[tuple[str, int, Finding]]:
        """Each kind of finding, how many there are, and the first."""
        first: dict[str, Finding] = {}
        for finding in self.findings:
            first.setdefault(finding.kind, finding)
        counts = Counter(finding.kind for finding in self.findings)
        return [(kind, counts[kind], first[kind]) for kind in first]

    def balance(self) -> str:
        """How unequal classes are, in one line."""
        total = Counter(dict.fromkeys(range(len(self.classes)), 0))
        for counts in self.counts.values():
            total.update(counts)
        present = [count for count in total.values() if count]
        if not present:
            return "no class has an image"
        most, least = max(present), min(present)
        absent = len(self.classes) - len(present)
        ratio = f"{len(present)} classes with {least} to {most} images, {most / least:.1f} to 1"
        return ratio + (f"; {absent} classes without an image" if absent else "")


def check(
    dataset: FileDataset,
    sample: int | None = 200,
    begin: Callable[[int], None] | None = None,
) -> Report:
    """Look at all files of a data set.

    Args:
        dataset: which one, and how it is read.
        sample: images that are decoded whole; None for all.
        begin: told how many images there are, once it is known.

    Raises:
        InterpError: there is no such data set in the folder.
    """
    started = time.perf_counter()
    index = dataset.indexed
    records = [record for split in SPLITS for record in index.records.get(split, ())]
    if begin is not None:
        begin(len(records))
    sizes, findings = _headers(records, dataset)
    chosen = sorted(records, key=lambda record: place(record.id, dataset.seed))[:sample]
    decoded = [record for record in chosen if record.id in sizes]
    broken = list(_decoded(decoded, dataset))
    bad = {finding.where for finding in (*findings, *broken) if finding.kind == "unreadable"}
    return Report(
        dataset.name,
        dataset.title,
        dataset.root,
        tuple(map(printable, layout(dataset, records))),
        tuple(map(printable, index.classes)),
        {split: Counter(t for r in index.records.get(split, ()) for t in r.targets) for split in SPLITS},
        {split: len(index.records.get(split, ())) for split in SPLITS},
        {split: sum(bool(r.boxes or r.masks) for r in index.records.get(split, ())) for split in SPLITS},
        (Counter(sizes.values()).most_common(3), len(set(sizes.values()))),
        (len(records), len(decoded)),
        len(bad),
        tuple(_plain(finding) for finding in (*findings, *broken, *index.findings)),
        time.perf_counter() - started,
        index.multi_label,
    )


def layout(dataset: FileDataset, records: Sequence[Record]) -> Iterator[str]:
    """How the folder is laid out: what the data set says of it, and where images and masks lie."""
    told: Any = getattr(dataset, "layout_found", None)
    if told is not None:
        yield told()
    for kind, paths in (
        ("images", (record.path for record in records)),
        ("masks", (mask.path for record in records for mask in record.masks)),
    ):
        for folder, count in sorted(_folders(paths, dataset.root).items()):
            yield f"{count} {kind} in {folder}"
    if boxes := sum(len(record.boxes) for record in records):
        yield f"{boxes} boxes"


def printable(text: str) -> str:
    """Text without characters that a terminal would obey; each becomes a question mark."""
    return "".join(letter if letter.isprintable() else "?" for letter in text.encode(errors="replace").decode())


def _plain(finding: Finding) -> Finding:
    return Finding(printable(finding.kind), printable(finding.where), printable(finding.what))


def _folders(paths: Iterable[Path], root: Path) -> Counter[str]:
    """Files by the folder they lie in; where these are many, as classes are, by the folder above."""
    found = Counter(path.parent for path in paths)
    while len(found) > MOST_FOLDERS:
        above: Counter[Path] = Counter()
        for folder, count in found.items():
            above[folder if folder == root else folder.parent] += count
        if above == found:
            break
        found = above
    return Counter({_beneath(folder, root): count for folder, count in found.items()})


def _headers(records: Sequence[Record], dataset: FileDataset) -> tuple[dict[str, Size], list[Finding]]:
    """Size of every image whose header can be read, by id, and what is wrong with the others and with boxes."""
    sizes: dict[str, Size] = {}
    findings: list[Finding] = []

    def looked_at(part: list[Record]) -> list[tuple[Record, Size | None, list[Finding]]]:
        return [_header(record, dataset) for record in part]

    with ThreadPoolExecutor(THREADS) as pool:
        for results in _bounded(pool, looked_at, _parts(records, PART)):
            for record, size, told in results:
                findings += told
                if size is not None:
                    sizes[record.id] = size
    return sizes, findings


def _header(record: Record, dataset: FileDataset) -> tuple[Record, Size | None, list[Finding]]:
    where = _where(record.path, dataset)
    try:
        size = picture_size(record.path, most_pixels=dataset.most_pixels, upright=dataset.upright)
    except UnreadableImage as error:
        return record, None, [Finding("unreadable", where, error.reason)]
    return record, size, [*_misplaced(record, size, where), *_wrong_masks(record, size, dataset)]


def _misplaced(record: Record, size: Size, where: str) -> Iterator[Finding]:
    """Boxes beyond the image, and a size of other proportions."""
    width, height = record.size or size
    if record.size is not None and not _alike(record.size, size):
        yield Finding("size", where, f"boxes refer to {width} x {height}, the image is {size[0]} x {size[1]}")
    for box in record.boxes:
        if box.x1 > width or box.y1 > height:
            all_of_it = box.x0 >= width or box.y0 >= height
            told = f"({box.x0:g}, {box.y0:g}, {box.x1:g}, {box.y1:g}) in {width} x {height}"
            yield Finding("box outside", where, f"{told}: {'marks nothing' if all_of_it else 'cut when read'}")


def _wrong_masks(record: Record, size: Size, dataset: FileDataset) -> Iterator[Finding]:
    for mask in record.masks:
        try:
            found = picture_size(mask.path, most_pixels=dataset.most_pixels, upright=False)
        except UnreadableImage as error:
            yield Finding("unreadable mask", _where(mask.path, dataset), error.reason)
            continue
        if not _alike(found, size):
            told = f"{found[0]} x {found[1]}, its image is {size[0]} x {size[1]}"
            yield Finding("size", _where(mask.path, dataset), told)


def _alike(one: Size, other: Size) -> bool:
    return abs(one[0] * other[1] / (one[1] * other[0]) - 1) <= PROPORTION


def _decoded(records: Sequence[Record], dataset: FileDataset) -> Iterator[Finding]:
    """What is wrong with the pixels of images and masks."""
    for record in records:
        try:
            read_image(record.path, most_pixels=dataset.most_pixels, upright=dataset.upright)
        except UnreadableImage as error:
            yield Finding("unreadable", _where(record.path, dataset), error.reason)
        for mask in record.masks:
            try:
                read_mask(mask.path, most_pixels=dataset.most_pixels)
            except UnreadableImage as error:
                yield Finding("unreadable mask", _where(mask.path, dataset), error.reason)


def _where(path: Path, dataset: FileDataset) -> str:
    return _beneath(path, dataset.root)


def _beneath(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _parts(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    rest = iter(records)
    while part := list(islice(rest, size)):
        yield part


def _bounded(pool: ThreadPoolExecutor, work: Callable[[Any], Any], parts: Iterator[Any]) -> Iterator[Any]:
    """Results in order, with few parts waiting at a time."""
    waiting = [pool.submit(work, part) for part in islice(parts, 2 * THREADS)]
    while waiting:
        yield waiting.pop(0).result()
        waiting += [pool.submit(work, part) for part in islice(parts, 1)]


def without_identifiers(report: Report, dataset: FileDataset) -> Report:
    """The report as it may be passed on: what names a patient is hashed, where the data set asks for that."""
    if not dataset.hash_ids:
        return report
    hidden = [replace(f, where=_hidden(f.where, dataset), what=_hidden_what(f)) for f in report.findings]
    return replace(report, findings=tuple(hidden))


def _hidden(where: str, dataset: FileDataset) -> str:
    table, _, row = where.rpartition(", row ")
    return where if table and row.isdecimal() else dataset.named(f"{dataset.name}/{Path(where).stem}")


def _hidden_what(finding: Finding) -> str:
    """Reasons of ours name nobody; a path within one does."""
    return finding.what if "/" not in finding.what else f"{finding.what.split('/')[0]}..."
