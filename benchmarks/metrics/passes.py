"""Forward passes of one network on perturbed versions of a few images, batched over images x steps, none made twice.

What a metric asks for depends on the images, on what is removed and on what it is replaced by; not on who asks. So
whoever judges several explainers or several metrics on the same images keeps one `Passes` and hands it to each: random
subsets and patches serve all explainers, one sweep serves all metrics that read it, and the ends of every sweep
(nothing removed, all removed) are known after the first.

Images stay on the device, rows x columns x channels, so that perturbed ones are made there by a product and are already
in the memory format convolutions like best.

Known limit: results are kept as long as the object lives; they are a few numbers a perturbed image.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.metrics.flat_network import flat_network_of
from benchmarks.metrics.removal import fill_values
from interp_core.errors import ContractError

# Images at once. More are no quicker on a CPU, whose caches they leave; a GPU wants enough to do.
BATCH = {"cpu": 32, "cuda": 512}

Images = Callable[[slice, slice], Tensor]
Piece = tuple[slice, slice]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Outputs:
    """What the network says of the targets, (N, T) float64 for N images in T versions.

    Attributes:
        logits: of the target.
        probabilities: of the target.
        hits: whether the target has the highest logit, or a positive one where an image may show several, bool.
    """

    logits: np.ndarray
    probabilities: np.ndarray
    hits: np.ndarray

    def at(self, column: int) -> Outputs:
        """One version, (N, 1)."""
        part = slice(column, column + 1)
        return Outputs(self.logits[:, part], self.probabilities[:, part], self.hits[:, part])


def joined(parts: Sequence[Outputs]) -> Outputs:
    """Versions beside each other."""
    return Outputs(*(np.concatenate([getattr(p, name) for p in parts], axis=1) for name in Outputs.__annotations__))


def fingerprint(*arrays: np.ndarray) -> str:
    """Short hash of arrays' contents."""
    state = hashlib.blake2b(digest_size=16)
    for array in arrays:
        state.update(repr((array.shape, array.dtype.str)).encode())
        state.update(np.ascontiguousarray(array).data)
    return state.hexdigest()


@cache
def pool(workers: int) -> ThreadPoolExecutor:
    """Threads that each use one CPU thread of torch; the caller keeps its own number."""
    threads = torch.get_num_threads()

    def begin() -> None:
        torch.get_num_threads()  # a thread's first call takes the process's number, and must not come later
        torch.set_num_threads(1)

    made = ThreadPoolExecutor(workers, "passes", initializer=begin)
    list(made.map(lambda _: time.sleep(0.01), range(workers)))  # all begin before the caller's number is set again
    torch.set_num_threads(threads)
    return made


def _bits(compare: Callable[..., Tensor], one: Tensor, other: Tensor) -> Tensor:
    """A comparison as float32, written as such, which is quicker than through truth values."""
    return compare(one, other, out=one.new_empty(torch.broadcast_shapes(one.shape, other.shape)))


def _size(piece: Piece) -> int:
    rows, steps = piece
    return int((rows.stop - rows.start) * (steps.stop - steps.start))


class Passes:
    """Forward passes of a network on perturbed versions of the same images.

    Args:
        model: network in evaluation mode, normalised images to logits (N, K).
        images: (N, C, H, W) float32, normalised.
        targets: (N,) classes whose outputs are wanted.
        device: where the model lives.
        batch_size: most images at once; None for what suits the device. Halved where a GPU's memory does not hold them.
        multi_label: whether each class is decided for itself: probabilities are sigmoids then, hits positive logits.

    Attributes:
        forwards: images that went through the network so far.
        seconds: time spent in the network.

    Raises:
        ContractError: the network is in training mode, or targets are not N classes it has.
    """

    def __init__(
        self,
        model: nn.Module,
        images: np.ndarray,
        targets: np.ndarray,
        device: str = "cpu",
        batch_size: int | None = None,
        *,
        multi_label: bool = False,
    ) -> None:
        if model.training:
            raise ContractError("metrics need the network in evaluation mode: call model.eval() first")
        if targets.shape != (len(images),) or targets.min() < 0:
            raise ContractError(f"targets must be {len(images)} classes, 0 or higher, got {targets.shape}")
        self.model, self.images, self.targets, self.device = model, images, targets, torch.device(device)
        self.batch_size = batch_size or BATCH.get(self.device.type, BATCH["cpu"])
        self.multi_label = multi_label
        self.forwards, self.seconds, self._lock = 0, 0.0, Lock()
        self._images = self._placed(images)
        self._wanted = torch.as_tensor(targets, device=self.device)
        self._known: dict[Hashable, Outputs] = {}
        self._fills: dict[str, Tensor] = {}
        self._drawn: dict[Hashable, np.ndarray] = {}

    @cached_property
    def network(self) -> nn.Module:
        """What is run: the network, or a quicker copy of it."""
        return flat_network_of(self.model, self._images[:1].permute(0, 3, 1, 2))

    def _placed(self, images: np.ndarray) -> Tensor:
        """Images (N, C, H, W) as a tensor (N, H, W, C) on the device."""
        rows = np.ascontiguousarray(images.transpose(0, 2, 3, 1), dtype=np.float32)
        return torch.from_numpy(rows).to(self.device)

    def kept(self, known: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """What `make` gives, made once for a name: what is drawn for these images whatever the explainer."""
        if known not in self._drawn:
            self._drawn[known] = make()
        return self._drawn[known]

    def fill(self, name: str) -> Tensor:
        """What pixels are replaced by, (N, H, W, C): see `removal.filled`."""
        if name not in self._fills:
            self._fills[name] = self._placed(fill_values(self.images, name))
        return self._fills[name]

    def clean(self) -> Outputs:
        """Outputs (N, 1) for the images themselves."""
        return self.outputs("clean", 1, lambda rows, _: self._images[rows, None])

    def all_removed(self, fill: str) -> Outputs:
        """Outputs (N, 1) where everything is replaced."""
        if fill != "mean":
            return self.outputs(("filled", fill), 1, lambda rows, _: self.fill(fill)[rows, None])
        if "blank" not in self._known:  # one image is as good as N
            self._known["blank"] = self._blank()
        return self._known["blank"]

    def _blank(self) -> Outputs:
        logits = self._forward(self.fill("mean")[:1]).expand(len(self.images), -1)
        return Outputs(*(values[:, None].numpy() for values in self._read(logits, self._wanted)))

    def removed(self, order: np.ndarray, counts: Sequence[int], fill: str, *, by_channel: bool = False) -> Outputs:
        """Outputs (N, T) where the features with `order` below `counts[t]` are replaced.

        Args:
            order: (N, 1, H, W) integers: 0 goes first. Pixels that go together have the same.
            counts: T bounds.
            fill: what they are replaced by, see `removal.filled`.
            by_channel: whether bounds count channels of pixels, which go one after the other, and not pixels.
        """
        channels = self._images.shape[-1]
        last = (int(order.max()) + 1) * (channels if by_channel else 1)
        inner = [count for count in counts if 0 < count < last]
        known = ("removed", fingerprint(order), tuple(inner), fill, by_channel)
        place = self._features(order, by_channel=by_channel)
        bounds = place.new_tensor(inner)[:, None, None, None]
        between = self.replaced(
            known, len(inner), lambda rows, steps: _bits(torch.ge, place[rows, None], bounds[steps]), fill
        )
        ends = {0: self.clean} if min(counts) <= 0 else {}
        parts = []
        for count in counts:
            if count <= 0:
                parts.append(ends[0]())
            elif count >= last:
                parts.append(self.all_removed(fill))
            else:
                parts.append(between.at(inner.index(count)))
        return joined(parts)

    def without_each(self, labels: np.ndarray, count: int, fill: str, *, step: int | None = None) -> Outputs:
        """Outputs (N, count) where only the pixels with label t are replaced, t = 0 .. count - 1.

        Args:
            labels: (N, 1, H, W) or (1, 1, H, W) integers.
            count: number of labels.
            fill: what they are replaced by.
            step: with it `labels` are an order of pixels, whose channels go one after the other in groups of `step`.
        """
        place = self._features(labels, by_channel=step is not None)
        place = place if step is None else place.div(step, rounding_mode="floor")
        place = place.expand(len(self.images), -1, -1, -1)
        number = torch.arange(count, device=self.device)[:, None, None, None].float()
        known = ("without", fingerprint(labels), count, fill, step)
        return self.replaced(known, count, lambda rows, steps: _bits(torch.ne, place[rows, None], number[steps]), fill)

    def _features(self, labels: np.ndarray, *, by_channel: bool) -> Tensor:
        """Number of each feature (N, H, W, C) float32, from those of pixels (N, 1, H, W).

        The channels of a pixel go together, or one after the other. Floats are exact up to 16 million features.
        """
        place = torch.from_numpy(labels[:, 0, :, :, None].astype(np.float32)).to(self.device)
        channels = torch.arange(self._images.shape[-1], device=self.device)
        return place * len(channels) + channels if by_channel else place.repeat(1, 1, 1, len(channels))

    def replaced(self, known: Hashable, count: int, kept: Images, fill: str) -> Outputs:
        """Outputs (N, count) where features are replaced, but those with a 1 in `kept(rows, steps)`.

        Args:
            known: see `outputs`.
            count: see `outputs`.
            kept: (n, t, H, W, C) float32 of 0 and 1, new with each call.
            fill: what features are replaced by, see `removal.filled`.
        """
        whole = None if fill == "mean" else self.fill(fill)

        # Products of floats are ten times as quick on a CPU as a choice by truth values, and as exact.
        def images(rows: slice, steps: slice) -> Tensor:
            share = kept(rows, steps)
            rest = None if whole is None else (1 - share).mul_(whole[rows, None])
            made = share.mul_(self._images[rows, None])
            return made if rest is None else made.add_(rest)

        return self.outputs(known, count, images)

    def outputs(self, known: Hashable, count: int, images: Images) -> Outputs:
        """Outputs (N, count), from what is known or from the network.

        Args:
            known: name of what is asked for; the same name must mean the same images.
            count: versions of each image.
            images: from rows and versions, as slices, to images (n, t, H, W, C).
        """
        if known not in self._known:
            self._known[known] = self._run(count, images)
        return self._known[known]

    def _run(self, count: int, images: Images) -> Outputs:
        n = len(self.images)
        found = [torch.empty(n, count, dtype=torch.float64) for _ in range(3)]

        def judged(piece: Piece) -> tuple[Piece, Sequence[Tensor]]:
            rows, steps = piece
            made = images(rows, steps)
            logits = self._forward(made.flatten(0, 1))
            values = self._read(logits, self._wanted[rows].repeat_interleave(made.shape[1]))
            return piece, [value.view(made.shape[:2]) for value in values]

        for piece, values in self._each(judged, n, count):
            for into, part in zip(found, values, strict=True):
                into[piece] = part
        logits, probabilities, hits = (part.numpy() for part in found)
        return Outputs(logits, probabilities, hits.astype(bool))

    def _each(self, judged: Callable[[Piece], Result], n: int, count: int) -> Iterator[Result]:
        """What `judged` gives for every piece, several of them at once where that is quicker."""
        if self.workers > 1:
            yield from pool(self.workers).map(judged, self._pieces(n, count))
            return
        at = 0
        while at < n * count:
            piece = self._piece(at, n, count)
            try:
                yield judged(piece)
            except torch.cuda.OutOfMemoryError:
                self._halve()
                continue
            at += _size(piece)

    @cached_property
    def workers(self) -> int:
        """How many batches are judged at once.

        Several on one CPU thread each are quicker than one on all threads, which wait for each other at every layer.
        Only a graph of plain operations is known to bear it.
        """
        alone = self.device.type != "cpu" or self.network is self.model
        return 1 if alone else torch.get_num_threads()

    def _pieces(self, n: int, count: int) -> Iterator[Piece]:
        at = 0
        while at < n * count:
            piece = self._piece(at, n, count)
            yield piece
            at += _size(piece)

    def _piece(self, at: int, n: int, count: int) -> Piece:
        """The next images and versions: some versions of one image, or all versions of some images."""
        row, step = divmod(at, count)
        if count >= self.batch_size or step:
            # Pieces of equal size: a small one at the end would be slow.
            pieces = -(-(count - step) // self.batch_size)
            return slice(row, row + 1), slice(step, step + -(-(count - step) // pieces))
        return slice(row, min(n, row + self.batch_size // count)), slice(0, count)

    def _halve(self) -> None:
        if self.batch_size == 1:
            raise ContractError("the GPU's memory does not hold a single image: take a smaller network or the CPU")
        torch.cuda.empty_cache()
        self.batch_size //= 2

    def _forward(self, images: Tensor) -> Tensor:
        """Logits of images (n, H, W, C)."""
        network = self.network  # made before the clock runs, and in no mode that marks its weights
        begin = time.perf_counter()
        with torch.inference_mode():
            logits: Any = network(images.permute(0, 3, 1, 2))
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
        with self._lock:
            self.seconds += (time.perf_counter() - begin) / self.workers
            self.forwards += len(images)
        if int(self._wanted.max()) >= logits.shape[1]:
            raise ContractError(f"targets must be classes in 0..{logits.shape[1] - 1}, got {int(self._wanted.max())}")
        return logits.float()

    def _read(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        wanted = targets[:, None]
        own = logits.gather(1, wanted)[:, 0]
        if self.multi_label:
            values = own, own.sigmoid(), own > 0
        else:
            values = own, logits.softmax(1).gather(1, wanted)[:, 0], logits.argmax(1) == targets
        return tuple(value.double().cpu() for value in values)  # type: ignore[return-value]
