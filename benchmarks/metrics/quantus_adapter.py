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
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.metrics.base import Batch
from interp_core.errors import ContractError

BATCH_SIZE = 32
REFUSALS = (AssertionError, AttributeError, IndexError, TypeError, ValueError)


class Shell(nn.Module):
    """A network as Quantus should see it: no modules inside, and probabilities if they are wanted."""

    def __init__(self, model: nn.Module, probabilities: bool) -> None:
        super().__init__()
        self._held = [model]
        self._probabilities = probabilities
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        logits = self._held[0](images).float()
        return logits.softmax(-1) if self._probabilities else logits

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
        parameters: of the metric's constructor.

    Returns:
        (N,) or (N, steps) float64.

    Raises:
        ContractError: Quantus refuses the batch, or the network is in training mode.
    """
    with _shell(batch, probabilities, with_model) as model, _quiet():
        metric = _build(name, absolute, parameters)
        try:
            values = metric(model=model, **_arrays(batch, maps))
        except REFUSALS as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ContractError(f"quantus {name} refuses this batch: {reason}") from error
    return np.asarray(values, dtype=np.float64)


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


def _arrays(batch: Batch, maps: np.ndarray) -> dict[str, Any]:
    return {
        "x_batch": np.array(batch.images, dtype=np.float32),
        "y_batch": np.array(batch.targets, dtype=np.int64),
        "a_batch": np.array(maps, dtype=np.float64),
        "s_batch": None if batch.masks is None else np.array(batch.masks, dtype=bool),
        "channel_first": True,
        "softmax": False,
        "device": batch.device,
        "batch_size": BATCH_SIZE,
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
    shell = Shell(batch.model, probabilities)
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
