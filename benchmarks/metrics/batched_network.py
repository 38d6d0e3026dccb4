"""A network run on many perturbed versions of a few images, in batches that suit the device.

The versions are made batch by batch, so that only one batch of images is in memory at a time. On a CPU several batches
run at once, one thread each; on a GPU the batch size is halved when memory runs out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from interp_core.backbone.attempt import dtype_of
from interp_core.backbone.runtime import fast_network_of
from interp_core.errors import ContractError
from interp_core.lap.odds import class_probabilities, predicts

# Images in a batch. A larger batch leaves the caches of a CPU and is no faster; a GPU needs enough work.
BATCH_SIZE = {"cpu": 32, "cuda": 512}

# From a slice of the images and a slice of their versions to perturbed images (n, t, H, W, C).
MakeImages = Callable[[slice, slice], Tensor]
Block = tuple[slice, slice]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Outputs:
    """Outputs of a network for the targets of N images in T versions.

    Attributes:
        logits: (N, T) float64, logit of the target.
        probabilities: (N, T) float64, probability of the target.
        hits: (N, T) bool, whether the target has the highest logit; with a sigmoid, a positive one.
    """

    logits: np.ndarray
    probabilities: np.ndarray
    hits: np.ndarray

    def version(self, index: int) -> Outputs:
        """Return one version, (N, 1)."""
        column = slice(index, index + 1)
        return Outputs(self.logits[:, column], self.probabilities[:, column], self.hits[:, column])


def concatenate(outputs: Sequence[Outputs]) -> Outputs:
    """Join outputs of the same images along the axis of versions."""
    names = Outputs.__annotations__
    return Outputs(*(np.concatenate([getattr(output, name) for output in outputs], axis=1) for name in names))


@cache
def single_threaded_pool(workers: int) -> ThreadPoolExecutor:
    """Return a pool whose workers use one CPU thread of torch.

    The caller keeps its number of threads.
    """
    threads = torch.get_num_threads()

    def start() -> None:
        torch.get_num_threads()  # a thread's first call takes the process's number, and must not come later
        torch.set_num_threads(1)

    pool = ThreadPoolExecutor(workers, "passes", initializer=start)
    list(pool.map(lambda _: time.sleep(0.01), range(workers)))  # all start before the caller's number is restored
    torch.set_num_threads(threads)
    return pool


class BatchedNetwork:
    """A network that is run in batches over images and versions.

    Args:
        model: network in evaluation mode, normalised images to logits (N, K).
        targets: (N,) classes whose outputs are returned.
        example: (1, H, W, C), an image on `device`.
        device: device of the model.
        batch_size: most images in a batch; None for one that suits the device.
        multi_label: whether each class is decided by itself. Probabilities are then sigmoids, and hits positive logits.

    Attributes:
        forwards: number of images run so far.
        seconds: time spent in the network so far.
        single_logit: whether the network has one logit, known after the first batch.

    Raises:
        ContractError: the network is in training mode.
    """

    def __init__(
        self,
        model: nn.Module,
        targets: np.ndarray,
        example: Tensor,
        device: torch.device,
        batch_size: int | None = None,
        *,
        multi_label: bool = False,
    ) -> None:
        if model.training:
            raise ContractError("metrics need the network in evaluation mode: call model.eval() first")
        self.model, self.device, self.multi_label = model, device, multi_label
        self.batch_size = batch_size or BATCH_SIZE.get(device.type, BATCH_SIZE["cpu"])
        self.forwards, self.seconds, self._lock = 0, 0.0, Lock()
        self.single_logit = False
        self._targets = torch.as_tensor(targets, device=device).long()
        self._dtype = dtype_of(model)
        self._example = example.to(self._dtype)

    @cached_property
    def module(self) -> nn.Module:
        """Module that is run: the fastest engine of the model."""
        return fast_network_of(self.model, self._example.permute(0, 3, 1, 2))

    @cached_property
    def workers(self) -> int:
        """Number of batches that run at once.

        On a CPU several batches with one thread each are faster than one batch on all threads, which wait for each
        other at every layer. Only an engine is known to allow it.
        """
        one_at_a_time = self.device.type != "cpu" or self.module is self.model
        return 1 if one_at_a_time else torch.get_num_threads()

    def run(self, versions: int, make_images: MakeImages) -> Outputs:
        """Run the network on `versions` versions of each image.

        Args:
            versions: number of versions T of each image.
            make_images: from slices of images and versions to perturbed images (n, t, H, W, C) on the device.

        Returns:
            Outputs (N, T).
        """
        n = len(self._targets)
        results = [torch.empty(n, versions, dtype=torch.float64) for _ in range(3)]

        def run_block(block: Block) -> tuple[Block, Sequence[Tensor]]:
            rows, columns = block
            images = make_images(rows, columns)
            logits = self._forward(images.flatten(0, 1))
            values = self._read(logits, self._targets[rows].repeat_interleave(images.shape[1]))
            return block, [value.view(images.shape[:2]) for value in values]

        for block, values in self._for_each_block(run_block, n, versions):
            for result, value in zip(results, values, strict=True):
                result[block] = value
        logits, probabilities, hits = (result.numpy() for result in results)
        return Outputs(logits, probabilities, hits.astype(bool))

    def run_repeated(self, image: Tensor) -> Outputs:
        """Run the network on one image (1, H, W, C).

        All N images share it, so the outputs (N, 1) repeat its logits.
        """
        logits = self._forward(image).expand(len(self._targets), -1)
        return Outputs(*(values[:, None].numpy() for values in self._read(logits, self._targets)))

    def _for_each_block(self, run_block: Callable[[Block], Result], n: int, versions: int) -> Iterator[Result]:
        """Yield the result of every block, in order.

        Several blocks run at once if there are workers.
        """
        if self.workers > 1:
            yield from single_threaded_pool(self.workers).map(run_block, self._blocks(n, versions))
            return
        start = 0
        while start < n * versions:
            block = self._block(start, n, versions)
            try:
                yield run_block(block)
            except torch.cuda.OutOfMemoryError:
                self._halve_batch_size()
                continue
            start += _size(block)

    def _blocks(self, n: int, versions: int) -> Iterator[Block]:
        start = 0
        while start < n * versions:
            block = self._block(start, n, versions)
            yield block
            start += _size(block)

    def _block(self, start: int, n: int, versions: int) -> Block:
        """Return the next block.

        It holds some versions of one image, or all versions of some images.
        """
        row, version = divmod(start, versions)
        # Every worker gets a block.
        size = max(1, min(self.batch_size, -(-n * versions // self.workers)))
        if versions >= size or version:
            # Blocks of equal size, since a small one at the end would be slow.
            blocks = -(-(versions - version) // size)
            return slice(row, row + 1), slice(version, version + -(-(versions - version) // blocks))
        return slice(row, min(n, row + size // versions)), slice(0, versions)

    def _halve_batch_size(self) -> None:
        if self.batch_size == 1:
            raise ContractError("the GPU's memory does not hold a single image: take a smaller network or the CPU")
        torch.cuda.empty_cache()
        self.batch_size //= 2

    def _forward(self, images: Tensor) -> Tensor:
        """Compute logits (n, K) of images (n, H, W, C)."""
        module = self.module  # built before the clock starts, and outside of inference mode
        begin = time.perf_counter()
        with torch.inference_mode():
            logits: Any = module(images.permute(0, 3, 1, 2).to(self._dtype))
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
        with self._lock:
            self.seconds += (time.perf_counter() - begin) / self.workers
            self.forwards += len(images)
        if int(self._targets.max()) >= logits.shape[1]:
            raise ContractError(f"targets must be classes in 0..{logits.shape[1] - 1}, got {int(self._targets.max())}")
        self.single_logit = logits.shape[1] == 1
        return logits.float()

    def _read(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logit, probability and hit of each target (n,), from logits (n, K)."""
        columns = targets[:, None]
        target_logits = logits.gather(1, columns)[:, 0]
        probabilities = class_probabilities(logits, self.multi_label).gather(1, columns)[:, 0]
        values = target_logits, probabilities, predicts(logits, targets, self.multi_label)
        return tuple(value.double().cpu() for value in values)  # type: ignore[return-value]


def _size(block: Block) -> int:
    rows, versions = block
    return int((rows.stop - rows.start) * (versions.stop - versions.start))
