"""Forward passes on perturbed images, shared by all metrics and explainers of a shard.

A perturbed image depends on the image, on the removed pixels and on their fill. It does not depend on who asks. So one
`Passes` object serves all metrics and all explainers of the same images, and never runs a perturbed image twice:

* Random subsets and single patches do not depend on the map, so they are run once for all explainers.
* Metrics that remove the same pixels in the same order, such as pixel flipping and deletion, share one sweep.
* The ends of every sweep, nothing removed and everything removed, are run once.

A metric gets the object by `passes_of(batch)` (`benchmarks.metrics.base`) and picks a method:

    run_clean                 the images as they are
    run_removals              pixels removed cumulatively in the order of a map
    run_single_removals       groups of pixels removed one at a time
    run_masked                pixels removed by any other masks
    run                       any other perturbation, such as imputed pixels

The last two take a cache key: a tuple with the name of the perturbation and every parameter that changes its images.
Images are stored as (N, H, W, C), the memory format that convolutions prefer.

Known limit: outputs are kept as long as the object lives. They are three numbers for each perturbed image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.metrics.batched_network import BatchedNetwork, MakeImages, Outputs, concatenate
from benchmarks.metrics.removal import fill_values
from interp_core.errors import ContractError


def fingerprint(*arrays: np.ndarray) -> str:
    """Return a short hash of the contents of arrays, for cache keys."""
    state = hashlib.blake2b(digest_size=16)
    for array in arrays:
        state.update(repr((array.shape, array.dtype.str)).encode())
        state.update(np.ascontiguousarray(array).data)
    return state.hexdigest()


class Passes:
    """Forward passes of a network on perturbed versions of the same images.

    Args:
        model: network in evaluation mode, normalised images to logits (N, K).
        images: (N, C, H, W) float32, normalised.
        targets: (N,) classes whose outputs are returned.
        device: device of the model.
        batch_size: most images in a batch; None for one that suits the device. It is halved if a GPU's memory runs out.
        multi_label: whether each class is decided by itself. Probabilities are then sigmoids, and hits positive logits.

    Raises:
        ContractError: the network is in training mode, or targets are not N classes of the network.
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
        if targets.shape != (len(images),) or targets.min() < 0:
            raise ContractError(f"targets must be {len(images)} classes, 0 or higher, got {targets.shape}")
        self.images, self.targets, self.device = images, targets, torch.device(device)
        self._images = self._to_device(images)
        self.network = BatchedNetwork(
            model, targets, self._images[:1], self.device, batch_size, multi_label=multi_label
        )
        self._outputs: dict[Hashable, Outputs] = {}
        self._fills: dict[str, Tensor] = {}
        self._arrays: dict[Hashable, np.ndarray] = {}

    @property
    def forwards(self) -> int:
        """Number of images run so far."""
        return self.network.forwards

    @property
    def seconds(self) -> float:
        """Time spent in the network so far."""
        return self.network.seconds

    def _to_device(self, images: np.ndarray) -> Tensor:
        """Convert images (N, C, H, W) to a tensor (N, H, W, C)."""
        rows = np.ascontiguousarray(images.transpose(0, 2, 3, 1), dtype=np.float32)
        return torch.from_numpy(rows).to(self.device)

    def cached(self, cache_key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the array that `make` returned for this key first.

        Use it for random draws that all explainers of the images share.
        """
        if cache_key not in self._arrays:
            self._arrays[cache_key] = make()
        return self._arrays[cache_key]

    def fill(self, name: str) -> Tensor:
        """Return the values (N, H, W, C) of removed pixels, see `removal.fill_values`."""
        if name not in self._fills:
            self._fills[name] = self._to_device(fill_values(self.images, name))
        return self._fills[name]

    def run_clean(self) -> Outputs:
        """Run the images as they are, and return outputs (N, 1)."""
        return self.run("clean", 1, lambda rows, _: self._images[rows, None])

    def run_filled(self, fill: str) -> Outputs:
        """Run images with all pixels removed, and return outputs (N, 1)."""
        if fill != "mean":
            return self.run(("filled", fill), 1, lambda rows, _: self.fill(fill)[rows, None])
        if "blank" not in self._outputs:  # all N images are equal
            self._outputs["blank"] = self.network.run_repeated(self.fill("mean")[:1])
        return self._outputs["blank"]

    def run_removals(self, order: np.ndarray, counts: Sequence[int], fill: str, *, by_channel: bool = False) -> Outputs:
        """Remove the first `counts[t]` pixels of each image, for each t.

        Args:
            order: (N, 1, H, W) integers; 0 is removed first. Pixels that are removed together have the same number.
            counts: T bounds: a pixel is removed in version t if its number is below `counts[t]`.
            fill: values of removed pixels, see `removal.fill_values`.
            by_channel: whether to remove the channels of a pixel one after the other, and count channels in `counts`.

        Returns:
            Outputs (N, T).
        """
        channels = self._images.shape[-1]
        end = (int(order.max()) + 1) * (channels if by_channel else 1)
        inner = [count for count in counts if 0 < count < end]
        cache_key = ("removed", fingerprint(order), tuple(inner), fill, by_channel)
        numbers = self._number_features(order, by_channel=by_channel)
        bounds = numbers.new_tensor(inner)[:, None, None, None]

        def keep(rows: slice, versions: slice) -> Tensor:
            return _compare(torch.ge, numbers[rows, None], bounds[versions])

        between = self.run_masked(cache_key, len(inner), keep, fill)
        outputs = []
        for count in counts:
            if count <= 0:
                outputs.append(self.run_clean())
            elif count >= end:
                outputs.append(self.run_filled(fill))
            else:
                outputs.append(between.version(inner.index(count)))
        return concatenate(outputs)

    def run_single_removals(self, labels: np.ndarray, count: int, fill: str, *, step: int | None = None) -> Outputs:
        """Remove one group of pixels at a time, each from the whole image.

        Args:
            labels: (N, 1, H, W) or (1, 1, H, W) integers; version t removes the pixels with label t.
            count: number of labels T.
            fill: values of removed pixels, see `removal.fill_values`.
            step: if given, `labels` is an order of pixels; their channels go one after the other in groups of `step`.

        Returns:
            Outputs (N, T).
        """
        numbers = self._number_features(labels, by_channel=step is not None)
        numbers = numbers if step is None else numbers.div(step, rounding_mode="floor")
        numbers = numbers.expand(len(self.images), -1, -1, -1)
        version_numbers = torch.arange(count, device=self.device)[:, None, None, None].float()
        cache_key = ("without", fingerprint(labels), count, fill, step)

        def keep(rows: slice, versions: slice) -> Tensor:
            return _compare(torch.ne, numbers[rows, None], version_numbers[versions])

        return self.run_masked(cache_key, count, keep, fill)

    def _number_features(self, labels: np.ndarray, *, by_channel: bool) -> Tensor:
        """Number each channel of each pixel, (N, H, W, C) float32.

        `labels` are numbers of pixels (N, 1, H, W).

        The channels of a pixel share a number, or go one after the other. Floats are exact up to 16 million features.
        """
        numbers = torch.from_numpy(labels[:, 0, :, :, None].astype(np.float32)).to(self.device)
        channels = torch.arange(self._images.shape[-1], device=self.device)
        return numbers * len(channels) + channels if by_channel else numbers.repeat(1, 1, 1, len(channels))

    def run_masked(self, cache_key: Hashable, versions: int, keep: MakeImages, fill: str) -> Outputs:
        """Remove the features where a mask is 0.

        Args:
            cache_key: see `run`.
            versions: number of masks T of each image.
            keep: from slices of images and versions to masks (n, t, H, W, C) float32 of 0 and 1, as a new tensor.
            fill: values of removed features, see `removal.fill_values`.

        Returns:
            Outputs (N, T).
        """
        fill_image = None if fill == "mean" else self.fill(fill)

        # On a CPU, products of floats are ten times as fast as torch.where, and as exact.
        def make_images(rows: slice, columns: slice) -> Tensor:
            mask = keep(rows, columns)
            background = None if fill_image is None else (1 - mask).mul_(fill_image[rows, None])
            images = mask.mul_(self._images[rows, None])
            return images if background is None else images.add_(background)

        return self.run(cache_key, versions, make_images)

    def run(self, cache_key: Hashable, versions: int, make_images: MakeImages) -> Outputs:
        """Run perturbed images, or return the outputs that are cached for this key.

        Args:
            cache_key: the name of the perturbation and every parameter that changes its images. Equal keys must mean
                equal images.
            versions: number of versions T of each image.
            make_images: from slices of images and versions to perturbed images (n, t, H, W, C) on the device.

        Returns:
            Outputs (N, T).
        """
        if cache_key not in self._outputs:
            self._outputs[cache_key] = self.network.run(versions, make_images)
        return self._outputs[cache_key]


def _compare(comparison: Callable[..., Tensor], a: Tensor, b: Tensor) -> Tensor:
    """Compare into a float32 tensor, which is faster than converting a bool tensor."""
    return comparison(a, b, out=a.new_empty(torch.broadcast_shapes(a.shape, b.shape)))
