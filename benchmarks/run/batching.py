"""Run a shard in batches, and halve the batch size after an out-of-memory error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

import torch

T = TypeVar("T")


class AdaptiveBatches:
    """Batch size that adapts to a GPU's memory. A size that did not fit is not tried again.

    Args:
        size: most images in a batch; "auto" for all at once, halved whenever they do not fit into memory.

    Attributes:
        max_size: most images in the next batches; None for all.
    """

    def __init__(self, size: int | Literal["auto"]) -> None:
        self.adapts = size == "auto"
        self.max_size = None if isinstance(size, str) else size

    def run(self, compute: Callable[[slice], T], count: int) -> list[T]:
        """Call a function on consecutive batches, and return its results in order.

        Args:
            compute: takes the indices of a batch.
            count: number of images.

        Raises:
            torch.OutOfMemoryError: the size is fixed, or one image alone does not fit.
        """
        results: list[T] = []
        start = 0
        while start < count:
            batch = slice(start, min(start + (self.max_size or count), count))
            size = batch.stop - batch.start
            try:
                results.append(compute(batch))
            except torch.OutOfMemoryError:
                if not self.adapts or size == 1:
                    raise
                self.max_size = size // 2
                continue
            start = batch.stop
        return results
