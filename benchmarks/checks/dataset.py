"""Check the files of a data set before a run: counts, balance, and defects.

Every header is read, in threads and in chunks of a bounded size. A sample of the images, or all, are decoded. The
result is plain data (`DatasetReport`), from which `benchmarks.checks.dataset_page` makes pictures and a page. Names and
reasons come from other people's files: control characters are replaced here, and markup must be escaped where they
are shown.

Known limits: pixels behind an intact header are only checked in the sample. Duplicate images are not detected.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.checks.evidence_share import EvidenceShares
from interp_core.datasets import SPLITS, FileDataset, Finding, Record, SplitName
from interp_core.datasets.files.box_forms import SHARES
from interp_core.datasets.files.image_set import Item, evidence_mask
from interp_core.datasets.files.images import UnreadableImage, count_frames, read_image, read_size
from interp_core.datasets.files.resize import geometry_of
from interp_core.datasets.files.sampling import sort_key
from interp_core.datasets.files.shapes import ShapeMask

CHUNK_SIZE = 256
MAX_FOLDERS_LISTED = 6
THREADS = 8
# Relative tolerance between the aspect ratio of an image and that of its mask, or of the size its boxes refer to.
ASPECT_TOLERANCE = 0.02
FRAME_SUFFIXES = frozenset({".gif", ".tif", ".tiff", ".webp"})

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class DatasetReport:
    """Counts and defects of a data set.

    Attributes:
        name: of the data set.
        title: of the data set, for people.
        root: its folder.
        layout: lines that describe the layout of the folder.
        classes: names.
        multi_label: whether an image may show any number of classes.
        counts: images of each split and class; an image of several classes counts in each.
        images: images of each split.
        with_evidence: images of each split with a box or mask.
        common_sizes: the three most common sizes (width, height), each with its number of images.
        size_count: number of different sizes.
        headers: images whose header was read.
        decoded: images that were decoded.
        unreadable: images that cannot be read.
        evidence: shares of the decoded images that their evidence covers.
        findings: all defects, unreadable images first.
        seconds: duration of the check.
    """

    name: str
    title: str
    root: Path
    layout: tuple[str, ...]
    classes: tuple[str, ...]
    multi_label: bool
    counts: dict[SplitName, Counter[int]]
    images: dict[SplitName, int]
    with_evidence: dict[SplitName, int]
    common_sizes: list[tuple[Size, int]]
    size_count: int
    headers: int
    decoded: int
    unreadable: int
    evidence: EvidenceShares
    findings: tuple[Finding, ...]
    seconds: float

    def findings_by_kind(self) -> list[tuple[str, int, Finding]]:
        """Return each kind of finding with its number and its first finding."""
        first: dict[str, Finding] = {}
        for finding in self.findings:
            first.setdefault(finding.kind, finding)
        counts = Counter(finding.kind for finding in self.findings)
        return [(kind, counts[kind], first[kind]) for kind in first]

    def balance(self) -> str:
        """Return one line about how unequal the classes are."""
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
) -> DatasetReport:
    """Check all files of a data set.

    Args:
        dataset: the data set and how it is read.
        sample: number of images to decode; None for all.
        begin: called with the number of images before the first is read.

    Raises:
        InterpError: there is no such data set in the folder.
    """
    started = time.perf_counter()
    index = dataset.checked_index
    records_by_split = {split: index.records.get(split, ()) for split in SPLITS}
    records = [record for split_records in records_by_split.values() for record in split_records]
    if begin is not None:
        begin(len(records))
    sizes, header_findings = _read_headers(records, dataset)
    sampled = sorted(records, key=lambda record: sort_key(record.id, dataset.seed))[:sample]
    decodable = [record for record in sampled if record.id in sizes]
    decode_findings, shares = _decode(decodable, sizes, dataset)
    evidence = EvidenceShares(tuple(shares), sum(bool(record.boxes or record.masks) for record in records))
    findings = [*header_findings, *decode_findings, *evidence.findings()]
    return DatasetReport(
        name=dataset.name,
        title=dataset.title,
        root=dataset.root,
        layout=tuple(map(printable, describe_layout(dataset, records))),
        classes=tuple(map(printable, index.classes)),
        multi_label=index.multi_label,
        counts={split: Counter(t for r in rs for t in r.targets) for split, rs in records_by_split.items()},
        images={split: len(rs) for split, rs in records_by_split.items()},
        with_evidence={split: sum(bool(r.boxes or r.masks) for r in rs) for split, rs in records_by_split.items()},
        common_sizes=Counter(sizes.values()).most_common(3),
        size_count=len(set(sizes.values())),
        headers=len(records),
        decoded=len(decodable),
        unreadable=len({finding.where for finding in findings if finding.kind == "unreadable"}),
        evidence=evidence,
        findings=tuple(_printable_finding(finding) for finding in (*findings, *index.findings)),
        seconds=time.perf_counter() - started,
    )


def describe_layout(dataset: FileDataset, records: Sequence[Record]) -> Iterator[str]:
    """Yield lines about the folder: the layout that the data set detected, and the folders of images and masks."""
    if layout := dataset.describe_layout():
        yield layout
    for kind, paths in (
        ("images", (record.path for record in records)),
        ("masks", (mask.path for record in records for mask in record.masks if not isinstance(mask, ShapeMask))),
    ):
        for folder, count in sorted(_count_by_folder(paths, dataset.root).items()):
            yield f"{count} {kind} in {folder}"
    if box_count := sum(len(record.boxes) for record in records):
        yield f"{box_count} boxes"
    if shape_count := sum(isinstance(mask, ShapeMask) for record in records for mask in record.masks):
        yield f"{shape_count} polygons or run-length masks"


def printable(text: str) -> str:
    """Replace control characters, which a terminal would obey, by question marks."""
    return "".join(letter if letter.isprintable() else "?" for letter in text.encode(errors="replace").decode())


def without_identifiers(report: DatasetReport, dataset: FileDataset) -> DatasetReport:
    """Return a report that may be passed on: file names are hashed if the data set hashes its ids."""
    if not dataset.hash_ids:
        return report
    findings = [replace(f, where=_hash_name(f.where, dataset), what=_cut_path(f.what)) for f in report.findings]
    return replace(report, findings=tuple(findings))


def _printable_finding(finding: Finding) -> Finding:
    return Finding(printable(finding.kind), printable(finding.where), printable(finding.what))


def _count_by_folder(paths: Iterable[Path], root: Path) -> Counter[str]:
    """Count files by folder; where there are many folders, such as one per class, by the folders above."""
    counts = Counter(path.parent for path in paths)
    while len(counts) > MAX_FOLDERS_LISTED:
        parent_counts: Counter[Path] = Counter()
        for folder, count in counts.items():
            parent_counts[folder if folder == root else folder.parent] += count
        if parent_counts == counts:
            break
        counts = parent_counts
    return Counter({_relative(folder, root): count for folder, count in counts.items()})


def _read_headers(records: Sequence[Record], dataset: FileDataset) -> tuple[dict[str, Size], list[Finding]]:
    """Return the size of every image with a readable header, by id, and the defects of headers, boxes and masks."""
    sizes: dict[str, Size] = {}
    findings: list[Finding] = []

    def read_chunk(chunk: list[Record]) -> list[tuple[Record, Size | None, list[Finding]]]:
        return [_read_header(record, dataset) for record in chunk]

    with ThreadPoolExecutor(THREADS) as pool:
        for chunk in _map_bounded(pool, read_chunk, _chunks(records, CHUNK_SIZE)):
            for record, size, record_findings in chunk:
                findings += record_findings
                if size is not None:
                    sizes[record.id] = size
    return sizes, findings


def _read_header(record: Record, dataset: FileDataset) -> tuple[Record, Size | None, list[Finding]]:
    path = _relative(record.path, dataset.root)
    try:
        size = read_size(record.path, most_pixels=dataset.most_pixels, upright=dataset.upright)
        frames = list(_check_frames(record, path))
    except UnreadableImage as error:
        return record, None, [Finding("unreadable", path, error.reason)]
    return record, size, [*frames, *_check_boxes(record, size, path), *_check_masks(record, size, dataset)]


def _check_frames(record: Record, path: str) -> Iterator[Finding]:
    """Yield that a file has several frames or pages; those of DICOM are among the findings of the data set."""
    if record.path.suffix.lower() in FRAME_SUFFIXES and (frames := count_frames(record.path)) > 1:
        yield Finding("several frames", path, f"it holds {frames} frames: the first is read")


def _check_boxes(record: Record, size: Size, path: str) -> Iterator[Finding]:
    """Yield boxes outside the image, and a reference size with another aspect ratio."""
    width, height = record.size or size
    if record.size not in (None, SHARES) and not _same_aspect(record.size, size):
        yield Finding("size", path, f"boxes refer to {width} x {height}, the image is {size[0]} x {size[1]}")
    for box in record.boxes:
        if record.size != SHARES and (box.x1 > width or box.y1 > height):
            is_outside = box.x0 >= width or box.y0 >= height
            corners = f"({box.x0:g}, {box.y0:g}, {box.x1:g}, {box.y1:g}) in {width} x {height}"
            yield Finding("box outside", path, f"{corners}: {'marks nothing' if is_outside else 'is cut when read'}")


def _check_masks(record: Record, size: Size, dataset: FileDataset) -> Iterator[Finding]:
    """Yield masks that cannot be read, or whose aspect ratio is not that of the image."""
    for mask in record.masks:
        if isinstance(mask, ShapeMask):
            continue
        path = _relative(mask.path, dataset.root)
        try:
            width, height = read_size(mask.path, most_pixels=dataset.most_pixels, upright=False)
        except UnreadableImage as error:
            yield Finding("unreadable mask", path, error.reason)
            continue
        if not _same_aspect((width, height), size):
            yield Finding("size", path, f"{width} x {height}, its image is {size[0]} x {size[1]}")


def _same_aspect(first: Size, second: Size) -> bool:
    return abs(first[0] * second[1] / (first[1] * second[0]) - 1) <= ASPECT_TOLERANCE


def _decode(
    records: Sequence[Record], sizes: Mapping[str, Size], dataset: FileDataset
) -> tuple[list[Finding], list[float]]:
    """Decode images and masks.

    Returns:
        those that cannot be read, and the share that the evidence covers of each image that has a box or mask.
    """
    findings: list[Finding] = []
    shares: list[float] = []
    for record in records:
        try:
            read_image(record.path, most_pixels=dataset.most_pixels, upright=dataset.upright)
        except UnreadableImage as error:
            findings.append(Finding("unreadable", _relative(record.path, dataset.root), error.reason))
        if record.boxes or record.masks:
            try:
                shares.append(_evidence_share(record, sizes[record.id], dataset))
            except UnreadableImage as error:
                findings.append(Finding("unreadable mask", _relative(error.path, dataset.root), error.reason))
    return findings, shares


def _evidence_share(record: Record, size: Size, dataset: FileDataset) -> float:
    """Return the share of an image that its evidence covers after resizing, for all classes it shows.

    Raises:
        UnreadableImage: a mask cannot be read.
    """
    how = dataset.preprocessing
    geometry = geometry_of(size, how.size, how.resize, how.crop_pct)
    return float(evidence_mask(Item(record.id, record.id, record, None), geometry, how.most_pixels).mean())


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _chunks(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    iterator = iter(records)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _map_bounded(pool: ThreadPoolExecutor, work: Callable[[Any], Any], chunks: Iterator[Any]) -> Iterator[Any]:
    """Yield results in order; submit few chunks ahead, so that memory stays bounded."""
    futures = deque(pool.submit(work, chunk) for chunk in islice(chunks, 2 * THREADS))
    while futures:
        yield futures.popleft().result()
        futures.extend(pool.submit(work, chunk) for chunk in islice(chunks, 1))


def _hash_name(where: str, dataset: FileDataset) -> str:
    """Replace a file name by its hashed id; a row of a table names nobody and stays."""
    table, _, row = where.rpartition(", row ")
    return where if table and row.isdecimal() else dataset.public_id(f"{dataset.name}/{Path(where).stem}")


def _cut_path(reason: str) -> str:
    """Cut a reason before the first path in it. Reasons without a path name nobody."""
    return reason if "/" not in reason else f"{reason.split('/')[0]}..."
