"""The one place that calls Quantus.

Quantus' defaults differ from metric to metric, so every argument that changes a value is given here explicitly. Its
callers are also spared that

* Quantus looks through a network for `nn.Softmax` modules and, by what it finds, adds a softmax or replaces one in a
  copy. It therefore gets a shell that hides the network and takes the softmax itself. It also keeps whatever it wraps
  alive in caches for the life of the process; the shell is emptied after each call, so no network is kept.
* After each step it compares every image with its perturbed self, only to warn that they are equal. The comparison is
  switched off during the call, as are warnings; both come back afterwards. No score depends on it.
* Some metrics write into the arrays they are given: they get copies.

Nothing here needs `np.trapz`, which NumPy 2.4 no longer has and Quantus 0.6.0 asks for: the metrics take areas.
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
from interp_core.errors import ContractError, one_line

BATCH_SIZE = 32
EXPLAINING = ("AvgSensitivity", "MaxSensitivity", "RandomLogit", "MPRT", "EfficientMPRT")
REFUSALS = (AssertionError, AttributeError, IndexError, TypeError, ValueError)


class Shell(nn.Module):
    """A network as Quantus should see it: no modules inside, and probabilities if they are wanted.

    Args:
        model: the network.
        probabilities: whether it gives probabilities; logits otherwise.
        multi_label: whether these are of each class for itself.
    """

    def __init__(self, model: nn.Module, probabilities: bool, multi_label: bool = False) -> None:
        super().__init__()
        self._held = [model]
        self._probabilities, self._multi_label = probabilities, multi_label
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        logits = self._held[0](images).float()
        if not self._probabilities:
            return logits
        return logits.sigmoid() if self._multi_label else logits.softmax(-1)

    def release(self) -> None:
        """Let go of the network."""
        self._held.clear()


def evaluate(
    name: str,
    batch: Batch,
    maps: np.ndarray,
    *,
    probabilities: bool = False,
    with_model: bool = True,
    absolute: bool = False,
    batch_size: int = BATCH_SIZE,
    bare: bool = False,
    **parameters: Any,
) -> np.ndarray:
    """Scores a Quantus metric gives, one row per image.

    Args:
        name: class in `quantus`.
        batch: what is judged; its masks are handed over if it has some.
        maps: (N, 1, H, W) finite maps to use in place of the batch's.
        probabilities: whether the metric reads probabilities; logits otherwise.
        with_model: whether the metric may see the network.
        absolute: whether Quantus takes the magnitude of the maps.
        batch_size: images Quantus sees at once.
        bare: hand over the network itself, for metrics that change its weights.
        parameters: of the metric's constructor.

    Returns:
        (N,) or (N, steps) float64.

    Raises:
        ContractError: Quantus refuses the batch, or the network is in training mode.
    """
    with _shell(batch, probabilities, with_model) as model, _quiet():
        metric = _build(name, absolute, parameters)
        try:
            network = batch.model if bare else model
            arrays = _arrays(batch, maps, batch_size) | {"softmax": bare and probabilities}
            values = metric(model=network, **arrays, **_explained(batch, name))
        except REFUSALS as error:
            raise ContractError(f"quantus {name} refuses this batch: {one_line(error)}") from error
    if isinstance(values, dict):  # ROAD: one number a percentage, for all images
        values = [list(values.values())]
    return np.asarray(values, dtype=np.float64)


def _explained(batch: Batch, name: str) -> dict[str, Any]:
    """The explainer as Quantus calls it, for the metrics that explain again."""
    if batch.explain is None or name not in EXPLAINING:
        return {}

    def explain(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> np.ndarray:
        assert batch.explain is not None
        network = model._held[0] if isinstance(model, Shell) else model
        return batch.explain(network, np.asarray(inputs, dtype=np.float32), np.asarray(targets))

    return {"explain_func": explain}


def replace_by(fill: np.ndarray) -> dict[str, Any]:
    """Constructor arguments that make a metric of one batch replace features by those of `fill` (N, C, H, W)."""
    if not fill.any():
        return {"perturb_baseline": 0.0}
    flat = fill.reshape(len(fill), -1)

    def replace(arr: np.ndarray, indices: np.ndarray, **_: Any) -> np.ndarray:
        changed = arr.copy()
        np.put_along_axis(changed, indices, np.take_along_axis(flat, indices, axis=1), axis=1)
        return changed

    return {"perturb_func": replace, "batch_size": len(fill)}


def replace_masked_by(fill: np.ndarray) -> dict[str, Any]:
    """The same for a metric that names features by a mask (N, 1, H, W), as quantus.IROF does."""

    def replace(arr: np.ndarray, mask: np.ndarray, **_: Any) -> np.ndarray:
        return np.where(mask, fill, arr)

    return {"perturb_func": replace}


def quantus_imputation(noise: np.ndarray) -> Callable[..., np.ndarray]:
    """Quantus' linear imputation of one image (C, H, W), with this noise (C, H, W) in place of one it draws."""
    from quantus import noisy_linear_imputation

    def impute(arr: np.ndarray, indices: np.ndarray, **_: Any) -> np.ndarray:
        changed: Any = noisy_linear_imputation(arr=arr, indices=indices, noise=0.0)  # type: ignore[arg-type]
        flat = changed.reshape(len(arr), -1)
        flat[:, indices] += noise.reshape(len(arr), -1)[:, indices]
        return flat.reshape(arr.shape)

    return impute


@contextmanager
def replace_in_quantus(module: str, name: str, value: Callable[..., Any]) -> Iterator[None]:
    """Another function in a module of Quantus, for the length of a call."""
    place = import_module(f"quantus.{module}")
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)


def predictions(batch: Batch) -> np.ndarray:
    """Probability (N,) float64 of each image's target, nothing removed."""
    targets = torch.as_tensor(batch.targets)
    with _shell(batch, probabilities=True, with_model=True) as model, torch.no_grad():
        assert model is not None
        parts = [model(part.to(batch.device)).cpu() for part in _tensor(batch.images).split(BATCH_SIZE)]
    values = torch.cat(parts)
    if int(targets.max()) >= values.shape[1]:
        raise ContractError(f"targets must be classes in 0..{values.shape[1] - 1}, got {int(targets.max())}")
    return values.gather(1, targets[:, None]).squeeze(1).double().numpy()


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
def _shell(batch: Batch, probabilities: bool, with_model: bool) -> Iterator[Shell | None]:
    if not with_model or batch.model is None:
        yield None
        return
    if batch.model.training:
        raise ContractError("metrics need the network in evaluation mode: call model.eval() first")
    if batch.targets.shape != (len(batch.images),) or batch.targets.min() < 0:
        raise ContractError(f"targets must be {len(batch.images)} classes, 0 or higher, got {batch.targets.shape}")
    shell = Shell(batch.model, probabilities, batch.multi_label)
    try:
        yield shell
    finally:
        shell.release()


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
