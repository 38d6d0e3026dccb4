"""Find the images that a user names, by file or folder, and read them in batches without labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.explaining.network import ImageView
from interp_core.datasets.files.image_set import FileImageSet, Item, try_item
from interp_core.datasets.files.paths import MissingFile, relative_id, walk_images
from interp_core.datasets.files.workers import Kind, Loader, can_fork, cores
from interp_core.datasets.records import Finding, Record

MOST_WORKERS = 8
READ_AHEAD = 256 << 20  # bytes of images


class ImageFile(NamedTuple):
    """A file that a user named, or one below a folder that a user named."""

    id: str
    path: Path


def list_images(paths: Sequence[str | Path]) -> list[ImageFile]:
    """List files, and the images below folders at any depth, each once.

    Args:
        paths: files and folders.

    Returns:
        Images with their path below the folder as id; where two folders share an id, the folder's name comes first.

    Raises:
        MissingFile: a path does not exist, or there are no images.
    """
    files: dict[Path, tuple[str, str]] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise MissingFile(f"{path} does not exist: give images, or folders of images")
        folder = path if path.is_dir() else path.parent
        findings: list[Finding] = []
        for file in walk_images(path, findings) if path.is_dir() else (path,):
            files.setdefault(file.resolve(), (folder.resolve().name, relative_id(file, folder)))
    if not files:
        raise MissingFile(f"there are no images in {', '.join(map(str, paths))}: give folders that hold some")
    counts = Counter(name for _, name in files.values())
    return [
        ImageFile(name if counts[name] == 1 else f"{folder}/{name}", path) for path, (folder, name) in files.items()
    ]


def sample(files: Sequence[ImageFile], most: int, seed: int) -> list[ImageFile]:
    """Draw at most `most` images at random, in the order of the list."""
    if len(files) <= most:
        return list(files)
    rows = np.random.default_rng(seed).permutation(len(files))[:most]
    return [files[i] for i in np.sort(rows)]


class FileSource:
    """Images of files in the form that `interp_core.fit` takes: normalised, and read ahead by workers.

    Args:
        files: what it holds, in order.
        view: how they are read.
        channels: of the network, 1 or 3.
        workers: number of processes that read; None for one per core, at most 8.
    """

    def __init__(
        self, files: Sequence[ImageFile], view: ImageView, channels: int = 3, workers: int | None = None
    ) -> None:
        self.files, self.view, self.channels = list(files), view, channels
        items = [Item(file.id, file.id, Record(file.id, file.path, (0,)), None) for file in files]
        kind: Kind = "processes" if can_fork() else "threads"
        count = min(cores(), MOST_WORKERS) if workers is None else workers
        window = max(1, READ_AHEAD // (4 * view.size**2))
        loader = Loader(partial(try_item, preprocessing=view.preprocessing), count, kind, window)
        self.images = FileImageSet(items, np.zeros(len(items), np.int64), view.size, loader)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return len(self.files), self.channels, self.view.size, self.view.size

    @property
    def unreadable(self) -> dict[str, str]:
        """Reasons by id of the images that could not be read so far."""
        return self.images.unreadable

    def __len__(self) -> int:
        return len(self.files)

    def batches(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield, for each batch of indices (n,), those of the images that could be read, and these images."""
        for rows, batch in self.images.batches([part.numpy() for part in indices]):
            yield torch.from_numpy(rows), self.view.normalise(torch.from_numpy(batch.images), self.channels)

    def close(self) -> None:
        """Stop the workers."""
        self.images.loader.close()
