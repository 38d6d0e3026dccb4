"""`python -m benchmarks.speed.loading`: how fast images of files reach the benchmark, against decoding them alone.

Files are made from photographs in the wheels: JPEG as large as ImageNet's, and DICOM with JPEG pixels as large as the
RSNA challenge's. Five sides read the same files in turn, A B C D E A B C D E; ratios are medians over the rounds.

* loop: Pillow, or pydicom, decodes in a loop in one process, and nothing is done with the pixels.
* bare: the same in as many processes as the loader has, a part of the files each.
* work: as many processes read, resize and rasterise evidence, and nothing is handed over.
* loader: a `FileSplit` gives the images, in order, to one consumer in another process.
* threads: the same, its workers threads of the consumer's process.

So loader / loop is what a consumer gets beside what it would decode for itself; loader / bare is far below 1, since
resizing by an antialiased bicubic filter costs as much as decoding; loader / work is what the loader itself costs.

Known limit: files are read again and again, so they come from the machine's page cache and not from a disk.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from rich.progress import track

from benchmarks.speed.pairs import quartiles
from benchmarks.store.atomic import write_atomically
from benchmarks.store.provenance import git_state, system, versions
from interp_core.datasets import FileDataset, FileSplit
from interp_core.datasets.files.image_set import Item, View, try_item
from interp_core.datasets.files.images import SUFFIXES
from interp_core.datasets.files.workers import Loader, cores
from interp_core.datasets.records import Box, Index, Record
from interp_core.datasets.synthetic.backgrounds import PICTURES, picture_path

OUTPUT = Path("results/speed")
ROUNDS, IMAGES, BATCH = 7, 384, 32
PAIRS = (("loader", "loop"), ("loader", "bare"), ("loader", "work"), ("threads", "loader"))
PHOTOGRAPH, RADIOGRAPH = (500, 375), (1024, 1024)


@dataclass(frozen=True)
class Line:
    """One kind of files and two sides: how much of the throughput of one is that of another.

    Attributes:
        files: what they are.
        images: of them in a round.
        workers: processes, or threads, of all sides but "loop".
        side: what is measured.
        reference: what it is compared with.
        ratio: images per second of the side / of the reference, median; with quartiles.
        per_second: images per second of the side, median.
        reference_per_second: of the reference, median.
    """

    files: str
    images: int
    workers: int
    side: str
    reference: str
    ratio: float
    q1: float
    q3: float
    per_second: float
    reference_per_second: float


class Folder(FileDataset):
    """Every picture of a folder, with a box in its middle."""

    def index(self) -> Index:
        files = sorted(path for path in self.root.iterdir() if path.suffix in SUFFIXES)
        box = (Box(100, 100, 300, 300),)
        return Index(("one",), {"test": tuple(Record(path.stem, path, (0,), box) for path in files)})


def pictures(size: tuple[int, int], count: int) -> list[Image.Image]:
    """Parts of photographs, larger or smaller, of one size."""
    whole = [Image.open(picture_path(name)).convert("RGB") for names in PICTURES.values() for name in names]
    draw, found = np.random.default_rng(0), []
    for i in range(count):
        image = whole[i % len(whole)]
        share = draw.uniform(0.6, 1)
        width = min(image.width, image.height * size[0] / size[1]) * share
        height = width * size[1] / size[0]
        left, top = draw.uniform(0, image.width - width), draw.uniform(0, image.height - height)
        found.append(image.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height)))
    return found


def write_photographs(folder: Path, count: int) -> None:
    """JPEG as large as ImageNet's."""
    for i, image in enumerate(pictures(PHOTOGRAPH, count)):
        image.save(folder / f"{i:04d}.jpg", quality=90)


def write_radiographs(folder: Path, count: int) -> None:
    """DICOM with grey JPEG pixels as large as the RSNA challenge's."""
    from pydicom.dataset import FileDataset as Dicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit, SecondaryCaptureImageStorage, generate_uid

    for i, image in enumerate(pictures(RADIOGRAPH, count)):
        held = io.BytesIO()
        image.convert("L").save(held, "JPEG", quality=90)
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = JPEGBaseline8Bit, SecondaryCaptureImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        content = Dicom("", {}, file_meta=meta, preamble=bytes(128))
        content.Columns, content.Rows = image.size
        content.SamplesPerPixel, content.PhotometricInterpretation = 1, "MONOCHROME2"
        content.BitsAllocated, content.BitsStored, content.HighBit, content.PixelRepresentation = 8, 8, 7, 0
        content.PixelData = encapsulate([held.getvalue()])
        content.save_as(folder / f"{i:04d}.dcm", enforce_file_format=True)


def decode_photographs(paths: Sequence[Path]) -> None:
    """Pillow alone."""
    for path in paths:
        with Image.open(path) as image:
            np.asarray(image.convert("RGB"))


def decode_radiographs(paths: Sequence[Path]) -> None:
    """Pydicom alone, with the quickest of its decoders."""
    from pydicom import dcmread
    from pydicom.pixels import pixel_array

    for path in paths:
        pixel_array(dcmread(path), decoding_plugin="pillow")


def work_through(items: Sequence[Item], view: View) -> None:
    """The loader's work, and nothing handed over."""
    for item in items:
        try_item(item, view)


def seconds(work: Callable[[], object]) -> float:
    """Seconds of a call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def measure(kind: str, write: Callable[..., None], decode: Callable[..., None], count: int, rounds: int) -> list[Line]:
    """The sides in turn on one kind of files."""
    workers = cores()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), count)
        dataset = Folder(root=Path(folder))
        split, view = dataset.load("test"), dataset.view
        paths = [item.record.path for item in split.items]
        chosen = [np.arange(start, min(start + BATCH, count)) for start in range(0, count, BATCH)]

        threaded = FileSplit(split.items, split.targets, view.size, Loader(split.loader.read, workers, "threads"))

        def load(given: FileSplit) -> None:
            assert sum(len(part) for _, part in given.batches(chosen)) == count

        with multiprocessing.get_context("fork").Pool(workers) as pool:
            sides: dict[str, Callable[[], None]] = {
                "loop": partial(shared, pool, decode, paths, 1),
                "bare": partial(shared, pool, decode, paths, workers),
                "work": partial(shared, pool, partial(work_through, view=view), split.items, workers),
                "loader": partial(load, split),
                "threads": partial(load, threaded),
            }
            for side in sides.values():  # so that all workers are there and all modules imported
                side()
            made = [{name: seconds(side) for name, side in sides.items()} for _ in track(range(rounds), kind)]
        dataset.loader.close()
        threaded.loader.close()
    return [line(kind, count, workers, made, *pair) for pair in PAIRS]


def shared(pool: Pool, function: Callable[..., None], things: Sequence[object], workers: int) -> None:
    """Call a function in each process with its part of the things."""
    pool.map(function, [things[i::workers] for i in range(workers)], chunksize=1)


def line(kind: str, count: int, workers: int, made: Sequence[dict[str, float]], side: str, reference: str) -> Line:
    """What came out for two sides, from the seconds of each, round by round."""
    low, middle, high = quartiles([times[reference] / times[side] for times in made])
    speeds = [float(np.median([count / times[name] for times in made])) for name in (side, reference)]
    return Line(kind, count, workers, side, reference, middle, low, high, *speeds)


def main() -> None:
    """Measure and write loading.csv and loading.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.loading", description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    kinds = {
        "JPEG, 500 x 375": (write_photographs, decode_photographs),
        "DICOM with JPEG, 1024 x 1024": (write_radiographs, decode_radiographs),
    }
    found = [measure(kind, *functions, given.images, given.rounds) for kind, functions in kinds.items()]
    given.output.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame([asdict(each) for lines in found for each in lines])
    write_atomically(given.output / "loading.csv", table.to_csv(index=False, float_format="%.4g"))
    facts = {**system(), "versions": versions(), "git": git_state(Path(__file__)), "rounds": given.rounds}
    write_atomically(given.output / "loading.json", pd.Series(facts).to_json(indent=2) + "\n")
    print(table.to_string())


if __name__ == "__main__":
    main()
