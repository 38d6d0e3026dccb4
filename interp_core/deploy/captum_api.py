"""Use LAP as a captum method: `LapAttribution(lap).attribute(images, target=3)`.

captum expects attributions in the inputs' shape. LAP says where, not which colour. So its map is spread evenly over the
channels, and their sum is the map, which captum's visualisation, Quantus and most callers use. Pass `one_channel=True`
for the map (N, 1, H, W) itself.

The map is `Explanation.map`, >= 0, without unit or baseline. So there is no convergence delta, and
`captum.metrics.infidelity` is meaningful with `normalize=True` only. Its values are parts of the decision, not slopes,
which captum calls `multiplies_by_inputs`.

Limit: no gradient flows back through `attribute`.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

import torch
from captum.attr import Attribution
from captum.log import log_usage
from torch import Tensor

from interp_core.errors import ContractError
from interp_core.lap.attach import LapModel

# Every form of target that captum documents for logits (N, K).
Target = int | tuple[int, ...] | Tensor | list[int] | list[tuple[int, ...]] | None


class LapAttribution(Attribution):  # type: ignore[misc]
    """A LAP model's own explanation as a captum method.

    Args:
        lap: a LAP model; also the `forward_func` of captum's metrics.

    Raises:
        ContractError: not a LAP model.
    """

    def __init__(self, lap: LapModel) -> None:
        if not isinstance(lap, LapModel):
            raise ContractError(f"LapAttribution takes a LAP model, got {type(lap).__name__}: attach LAP to it first")
        super().__init__(lap)
        self.lap = lap

    @property
    def multiplies_by_inputs(self) -> bool:
        """True, since attributions are parts of the output rather than its slope."""
        return True

    def has_convergence_delta(self) -> bool:
        """Return False, since there is no output to which attributions must sum."""
        return False

    @log_usage()  # type: ignore[untyped-decorator]  # NoiseTunnel looks for this decorator's `__wrapped__`
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: Any = None,
        *,
        one_channel: bool = False,
    ) -> Tensor | tuple[Tensor, ...]:
        """Explain `inputs` by one forward pass.

        Args:
            inputs: images (N, C, H, W) floating point, alone or as a tuple of one.
            target: class of all images (int, tensor of one element, tuple of one) or of each ((N,) tensor, list of
                ints, list of tuples of one); None for the predicted classes.
            additional_forward_args: must be None, since a LAP model takes images only.
            one_channel: whether to return the map (N, 1, H, W) instead of its even spread over the channels.

        Returns:
            Attributions (N, C, H, W) >= 0 in the inputs' type and on their device; a tuple for a tuple.

        Raises:
            ContractError: inputs, targets or arguments that a LAP model cannot take.
        """
        images = _only_image_batch(inputs)
        if additional_forward_args is not None:
            raise ContractError("a LAP model takes images only: leave additional_forward_args out")
        maps = self.lap.explain(images, class_indices(target)).map.to(images)
        attributions = maps if one_channel else (maps / images.shape[1]).repeat(1, images.shape[1], 1, 1)
        return (attributions,) if isinstance(inputs, tuple) else attributions

    def attribute_future(self) -> None:
        """Raise an error, as captum's own methods do.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("attribute_future is not implemented for LapAttribution: use attribute")


def _only_image_batch(inputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    if not isinstance(inputs, tuple):
        return inputs
    if len(inputs) != 1:
        raise ContractError(f"a LAP model takes one tensor of images, got a tuple of {len(inputs)}")
    return inputs[0]


def class_indices(target: Target) -> Tensor | int | None:
    """Convert captum's forms of a target to class indices for `LapModel.explain`.

    Raises:
        ContractError: an index into more than the classes, or a form that captum does not have.
    """
    if target is None:
        return None
    if isinstance(target, Integral):
        return int(target)
    if isinstance(target, Tensor):
        return target.flatten()[0] if target.numel() == 1 else target
    if isinstance(target, tuple):
        return _single_index(target)
    if isinstance(target, list):
        indices = [_single_index(entry) if isinstance(entry, tuple) else entry for entry in target]
        if all(isinstance(index, Integral) for index in indices):
            return torch.tensor(indices, dtype=torch.long)
        raise ContractError("a list of targets must hold ints or tuples of one int")
    raise ContractError(f"target must be an int, a tuple, a tensor, a list or None, got {type(target).__name__}")


def _single_index(index: tuple[int, ...]) -> int:
    if len(index) != 1:
        raise ContractError(f"logits have classes as their only dimension, but target {index} has {len(index)}")
    return index[0]
