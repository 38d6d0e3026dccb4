"""A shard in pieces that fit into memory; a size that did not fit is not tried again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

import torch

T = TypeVar("T")


class AdaptiveBatches:
    """How many images at once.

    Args:
        size: most images of a piece; "auto" for all at once, halved whenever a GPU's memory does not hold them.

    Attributes:
        largest: most images that will be tried from here on; None for all.
    """

    def __init__(self, size: int | Literal["auto"]) -> None:
        self.adapts = size == "auto"
        self.largest = None if isinstance(size, str) else size

    def run(self, call: Callable[[slice], T], count: int) -> list[T]:
        """Results of `call` on consecutive pieces of `count` images, in order.

        Raises:
            torch.OutOfMemoryError: the size is fixed, or one image alone does not fit.
        """
        done: list[T] = []
        start = 0
        while start < count:
            piece = slice(start, min(start + (self.largest or count), count))
            try:
                done.append(call(piece))
            except torch.OutOfMemoryError:
                if not self.adapts or piece.stop - piece.start == 1:
                    raise
                self.largest = (piece.stop - piece.start) // 2
                continue
            start = piece.stop
        return done
