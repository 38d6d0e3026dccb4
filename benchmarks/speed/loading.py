"""Time how fast images of files reach the benchmark, against decoding them alone.

Files are made from photographs in the wheels: JPEG as large as ImageNet's, and DICOM with JPEG pixels as large as the
RSNA challenge's. Five sides read the same files in turn, A B C D E A B C D E. Ratios are medians over the rounds.

* loop: Pillow, or pydicom, decodes in a loop in one process, and nothing is done with the pixels.
* bare: the same in as many processes as the loader has, each with its share of the files.
* work: as many processes read, resize and rasterise evidence, and nothing is handed over.
* loader: the image set of a data set gives the images, in order, to one consumer in another process.
* threads: the same with threads of the consumer's process as workers.

So loader / loop is the gain of a consumer over decoding by itself. loader / bare is far below 1, since resizing by an
antialiased bicubic filter costs as much as decoding. loader / work is the cost of the loader itself.

Known limit: files are read repeatedly, so they come from the machine's page cache and not from a disk.
"""

from __future__ import annotations

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
from benchmarks.speed.table import COMMAND
from benchmarks.store.atomic import write_atomically
from benchmarks.store.provenance import write_provenance
from interp_core.datasets import FileDataset, FileImageSet
from interp_core.datasets.files.image_set import Item, Preprocessing, try_item
from interp_core.datasets.files.images import SUFFIXES
from interp_core.datasets.files.workers import Loader, cores
from interp_core.datasets.records import Box, Index, Record
from interp_core.datasets.synthetic.backgrounds import PHOTOGRAPHS, photograph_path

BATCH = 32
PAIRS = (("loader", "loop"), ("loader", "bare"), ("loader", "work"), ("threads", "loader"))
PHOTOGRAPH, RADIOGRAPH = (500, 375), (1024, 1024)


@dataclass(frozen=True)
class LoadingRow:
    """Throughput of two sides on one kind of files.

    Attributes:
        files: format and size of the files.
        images: images in a round.
        workers: processes, or threads, of all sides except "loop".
        side: the side that is measured.
        reference: the side it is compared with.
        ratio: images per second of the side / of the reference, median, with quartiles.
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
    """Data set of every picture in a folder, with a box in its middle."""

    def index(self) -> Index:
        """Index all pictures as test images of one class."""
        files = sorted(path for path in self.root.iterdir() if path.suffix in SUFFIXES)
        box = (Box(100, 100, 300, 300),)
        return Index(("one",), {"test": tuple(Record(path.stem, path, (0,), box) for path in files)})


def crop_photographs(size: tuple[int, int], count: int) -> list[Image.Image]:
    """Crop parts of photographs, larger or smaller, and resize them to (width, height)."""
    photographs = [Image.open(photograph_path(name)).convert("RGB") for names in PHOTOGRAPHS.values() for name in names]
    draw, crops = np.random.default_rng(0), []
    for i in range(count):
        image = photographs[i % len(photographs)]
        share = draw.uniform(0.6, 1)
        width = min(image.width, image.height * size[0] / size[1]) * share
        height = width * size[1] / size[0]
        left, top = draw.uniform(0, image.width - width), draw.uniform(0, image.height - height)
        crops.append(image.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height)))
    return crops


def write_photographs(folder: Path, count: int) -> None:
    """Write JPEG files as large as ImageNet's."""
    for i, image in enumerate(crop_photographs(PHOTOGRAPH, count)):
        image.save(folder / f"{i:04d}.jpg", quality=90)


def write_radiographs(folder: Path, count: int) -> None:
    """Write DICOM files with grey JPEG pixels as large as the RSNA challenge's."""
    from pydicom.dataset import FileDataset as Dicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit, SecondaryCaptureImageStorage, generate_uid

    for i, image in enumerate(crop_photographs(RADIOGRAPH, count)):
        buffer = io.BytesIO()
        image.convert("L").save(buffer, "JPEG", quality=90)
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = JPEGBaseline8Bit, SecondaryCaptureImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        content = Dicom("", {}, file_meta=meta, preamble=bytes(128))
        content.Columns, content.Rows = image.size
        content.SamplesPerPixel, content.PhotometricInterpretation = 1, "MONOCHROME2"
        content.BitsAllocated, content.BitsStored, content.HighBit, content.PixelRepresentation = 8, 8, 7, 0
        content.PixelData = encapsulate([buffer.getvalue()])
        content.save_as(folder / f"{i:04d}.dcm", enforce_file_format=True)


def decode_photographs(paths: Sequence[Path]) -> None:
    """Decode with Pillow alone."""
    for path in paths:
        with Image.open(path) as image:
            np.asarray(image.convert("RGB"))


def decode_radiographs(paths: Sequence[Path]) -> None:
    """Decode with pydicom alone, by the fastest of its decoders."""
    from pydicom import dcmread
    from pydicom.pixels import pixel_array

    for path in paths:
        pixel_array(dcmread(path), decoding_plugin="pillow")


def process_items(items: Sequence[Item], preprocessing: Preprocessing) -> None:
    """Do the loader's work without handing anything over."""
    for item in items:
        try_item(item, preprocessing)


def time_call(work: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def measure(
    kind: str, write: Callable[..., None], decode: Callable[..., None], count: int, rounds: int
) -> list[LoadingRow]:
    """Time all sides in turn on one kind of files.

    Args:
        kind: name of the files in the table.
        write: writes a number of files into a folder.
        decode: decodes a list of files.
        count: number of files.
        rounds: rounds of all sides.
    """
    workers = cores()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), count)
        dataset = Folder(root=Path(folder))
        split, preprocessing = dataset.load("test"), dataset.preprocessing
        paths = [item.record.path for item in split.items]
        batches = [np.arange(start, min(start + BATCH, count)) for start in range(0, count, BATCH)]
        threaded = FileImageSet(
            split.items, split.targets, preprocessing.size, Loader(split.loader.read, workers, "threads")
        )

        def load(images: FileImageSet) -> None:
            assert sum(len(batch) for _, batch in images.batches(batches)) == count

        with multiprocessing.get_context("fork").Pool(workers) as pool:
            sides: dict[str, Callable[[], None]] = {
                "loop": partial(map_shares, pool, decode, paths, 1),
                "bare": partial(map_shares, pool, decode, paths, workers),
                "work": partial(
                    map_shares, pool, partial(process_items, preprocessing=preprocessing), split.items, workers
                ),
                "loader": partial(load, split),
                "threads": partial(load, threaded),
            }
            for side in sides.values():  # start all workers and import all modules
                side()
            times = [{name: time_call(side) for name, side in sides.items()} for _ in track(range(rounds), kind)]
        dataset.loader.close()
        threaded.loader.close()
    return [summarise(kind, count, workers, times, *pair) for pair in PAIRS]


def map_shares(pool: Pool, function: Callable[..., None], items: Sequence[object], workers: int) -> None:
    """Call a function in each process with its share of the items."""
    pool.map(function, [items[i::workers] for i in range(workers)], chunksize=1)


def summarise(
    kind: str, count: int, workers: int, rounds: Sequence[dict[str, float]], side: str, reference: str
) -> LoadingRow:
    """Build the row of two sides from the seconds of each, round by round."""
    low, middle, high = quartiles([times[reference] / times[side] for times in rounds])
    speeds = [float(np.median([count / times[name] for times in rounds])) for name in (side, reference)]
    return LoadingRow(kind, count, workers, side, reference, middle, low, high, *speeds)


def write_loading(folder: Path, images: int, rounds: int) -> list[Path]:
    """Measure and write loading.csv and loading.json.

    Args:
        folder: folder of both files.
        images: files of each kind.
        rounds: rounds of all sides.
    """
    kinds = {
        "JPEG, 500 x 375": (write_photographs, decode_photographs),
        "DICOM with JPEG, 1024 x 1024": (write_radiographs, decode_radiographs),
    }
    rows = [row for kind, functions in kinds.items() for row in measure(kind, *functions, images, rounds)]
    table = pd.DataFrame([asdict(row) for row in rows])
    return [
        write_atomically(folder / "loading.csv", table.to_csv(index=False, float_format="%.4g")),
        write_provenance(folder / "loading.json", {"rounds": rounds}, command=f"{COMMAND} loading"),
    ]
