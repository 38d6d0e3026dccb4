"""Adapter to Quantus, the only module that calls it.

Quantus' defaults differ between metrics, so every argument that changes a value is given explicitly. The adapter also
works around these properties of Quantus:

* It searches a network for `nn.Softmax` modules, and then adds a softmax or replaces one in a copy. So it gets a
  wrapper that hides the network and applies the softmax itself.
* It keeps what it wraps alive in caches for the life of the process. The wrapper is emptied after each call.
* After each step it compares every image with its perturbed version, only to warn if they are equal. The comparison and
  the warnings are switched off during a call. No score depends on them.
* Some metrics write into their arguments, so they get copies.
* Quantus 0.6.0 uses `np.trapz`, which NumPy 2.4 has not. Our metrics compute areas themselves.

Known limit: the comparison is off for the whole process while a call lasts, so another thread misses the warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.metrics.base import Batch
from interp_core.backbone.attempt import dtype_of
from interp_core.errors import ContractError, one_line
from interp_core.lap.odds import class_probabilities

BATCH_SIZE = 32
EXPLAIN_AGAIN = ("AvgSensitivity", "MaxSensitivity", "RandomLogit", "MPRT", "EfficientMPRT")
REFUSALS = (AssertionError, AttributeError, IndexError, TypeError, ValueError)


class HiddenNetwork(nn.Module):
    """Wrapper of a network whose modules Quantus cannot see.

    Args:
        model: the network.
        probabilities: whether it gives probabilities, else logits.
        multi_label: whether an image may show several classes, each with its own sigmoid.
    """

    def __init__(self, model: nn.Module, probabilities: bool, multi_label: bool = False) -> None:
        super().__init__()
        self._network = [model]
        self._probabilities, self._multi_label = probabilities, multi_label
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        network = self._network[0]
        logits = network(images.to(dtype_of(network))).float()
        if not self._probabilities:
            return logits
        return class_probabilities(logits, self._multi_label)

    def release(self) -> None:
        """Drop the network."""
        self._network.clear()


def evaluate(
    name: str,
    batch: Batch,
    maps: np.ndarray,
    *,
    probabilities: bool = False,
    with_model: bool = True,
    absolute: bool = False,
    batch_size: int = BATCH_SIZE,
    pass_network: bool = False,
    **parameters: Any,
) -> np.ndarray:
    """Compute the scores of a Quantus metric, one row per image.

    Args:
        name: class in `quantus`.
        batch: images and targets, with masks if there are any.
        maps: (N, 1, H, W) finite maps, in place of the batch's.
        probabilities: whether the metric uses probabilities, else logits.
        with_model: whether the metric gets the network.
        absolute: whether Quantus takes the magnitude of the maps.
        batch_size: images in a batch of Quantus.
        pass_network: whether to pass the network itself, for metrics that change its weights.
        parameters: arguments of the metric's constructor.

    Returns:
        (N,) or (N, steps) float64.

    Raises:
        ContractError: Quantus refuses the batch, or the network is in training mode.
    """
    with _hidden_network(batch, probabilities, with_model) as model, _quiet():
        metric = _build(name, absolute, parameters)
        try:
            network = batch.model if pass_network else model
            arrays = _arrays(batch, maps, batch_size) | {"softmax": pass_network and probabilities}
            values = metric(model=network, **arrays, **_explain_argument(batch, name))
        except REFUSALS as error:
            raise ContractError(f"quantus {name} refuses this batch: {one_line(error)}") from error
    if isinstance(values, dict):  # ROAD: one number a percentage, for all images
        values = [list(values.values())]
    return np.asarray(values, dtype=np.float64)


def _explain_argument(batch: Batch, name: str) -> dict[str, Any]:
    """Return the explainer as an argument of Quantus, for metrics that explain again."""
    if batch.explain is None or name not in EXPLAIN_AGAIN:
        return {}

    def explain(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> np.ndarray:
        assert batch.explain is not None
        network = model._network[0] if isinstance(model, HiddenNetwork) else model
        return batch.explain(network, np.asarray(inputs, dtype=np.float32), np.asarray(targets))

    return {"explain_func": explain}


def replace_by(fill: np.ndarray) -> dict[str, Any]:
    """Return arguments that make a metric replace features by `fill`.

    They go to the constructor of a Quantus metric. `fill` (N, C, H, W) belongs to one batch.
    """
    if not fill.any():
        return {"perturb_baseline": 0.0}
    flat = fill.reshape(len(fill), -1)

    def replace(arr: np.ndarray, indices: np.ndarray, **_: Any) -> np.ndarray:
        changed = arr.copy()
        np.put_along_axis(changed, indices, np.take_along_axis(flat, indices, axis=1), axis=1)
        return changed

    return {"perturb_func": replace, "batch_size": len(fill)}


def replace_masked_by(fill: np.ndarray) -> dict[str, Any]:
    """Return the same arguments for metrics that use masks.

    quantus.IROF selects features by a mask (N, 1, H, W).
    """

    def replace(arr: np.ndarray, mask: np.ndarray, **_: Any) -> np.ndarray:
        return np.where(mask, fill, arr)

    return {"perturb_func": replace}


def quantus_imputation(noise: np.ndarray) -> Callable[..., np.ndarray]:
    """Return Quantus' linear imputation with the given noise.

    It imputes one image (C, H, W); the noise has its shape.
    """
    from quantus import noisy_linear_imputation

    def impute(arr: np.ndarray, indices: np.ndarray, **_: Any) -> np.ndarray:
        changed: Any = noisy_linear_imputation(arr=arr, indices=indices, noise=0.0)  # type: ignore[arg-type]
        flat = changed.reshape(len(arr), -1)
        flat[:, indices] += noise.reshape(len(arr), -1)[:, indices]
        return flat.reshape(arr.shape)

    return impute


@contextmanager
def replace_in_quantus(module: str, name: str, value: Callable[..., Any]) -> Iterator[None]:
    """Replace a function in a module of Quantus inside the block."""
    target = import_module(f"quantus.{module}")
    original = getattr(target, name)
    setattr(target, name, value)
    try:
        yield
    finally:
        setattr(target, name, original)


def predictions(batch: Batch) -> np.ndarray:
    """Compute the probability (N,) float64 of each image's target, nothing removed."""
    targets = torch.as_tensor(batch.targets).long()
    with _hidden_network(batch, probabilities=True, with_model=True) as model, torch.no_grad():
        assert model is not None
        outputs = [model(images.to(batch.device)).cpu() for images in _tensor(batch.images).split(BATCH_SIZE)]
    values = torch.cat(outputs)
    if int(targets.max()) >= values.shape[1]:
        raise ContractError(f"targets must be classes in 0..{values.shape[1] - 1}, got {int(targets.max())}")
    return values.gather(1, targets[:, None]).squeeze(1).double().numpy()


def count_classes(batch: Batch) -> int:
    """Return the number of logits K of the network."""
    assert batch.model is not None
    with torch.no_grad():
        logits: Tensor = batch.model(_tensor(batch.images[:1]).to(batch.device, dtype_of(batch.model)))
    return logits.shape[1]


def _tensor(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(images, dtype=np.float32))


def _build(name: str, absolute: bool, parameters: dict[str, Any]) -> Any:
    # Quantus takes seconds to import, and listing metrics should not.
    metric_class = getattr(import_module("quantus"), name)
    return metric_class(
        abs=absolute,
        normalise=False,
        return_aggregate=False,
        disable_warnings=True,
        display_progressbar=False,
        **parameters,
    )


def _arrays(batch: Batch, maps: np.ndarray, batch_size: int) -> dict[str, Any]:
    return {
        "x_batch": np.array(batch.images, dtype=np.float32),
        "y_batch": np.array(batch.targets, dtype=np.int64),
        "a_batch": np.array(maps, dtype=np.float64),
        "s_batch": None if batch.masks is None else np.array(batch.masks, dtype=bool),
        "channel_first": True,
        "softmax": False,
        "device": batch.device,
        "batch_size": batch_size,
    }


@contextmanager
def _hidden_network(batch: Batch, probabilities: bool, with_model: bool) -> Iterator[HiddenNetwork | None]:
    if not with_model or batch.model is None:
        yield None
        return
    if batch.model.training:
        raise ContractError("metrics need the network in evaluation mode: call model.eval() first")
    if batch.targets.shape != (len(batch.images),) or batch.targets.min() < 0:
        raise ContractError(f"targets must be {len(batch.images)} classes, 0 or higher, got {batch.targets.shape}")
    hidden = HiddenNetwork(batch.model, probabilities, batch.multi_label)
    try:
        yield hidden
    finally:
        hidden.release()


@contextmanager
def _quiet() -> Iterator[None]:
    helpers: Any = import_module("quantus.helpers.warn")
    compare = helpers.warn_perturbation_caused_no_change
    helpers.warn_perturbation_caused_no_change = lambda **_: None
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        helpers.warn_perturbation_caused_no_change = compare
