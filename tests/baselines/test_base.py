"""Batches of the base class: how many images `explain` gets at once."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from baselines import Explainer

IMAGES = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 3, 4, 4)
TARGETS = torch.arange(5)
CLASSIFIER = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))


class Counting(Explainer):
    """The first channel plus the target; notes the sizes of its batches."""

    name: ClassVar[str] = "counting"
    sizes: ClassVar[list[int]] = []

    internal_batch_size: int = Field(32, ge=1)

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        self.sizes.append(len(images))
        return images[:, :1] + targets[:, None, None, None]


class Whole(Counting):
    """The same, of all images at once."""

    batched: ClassVar[bool] = False


class WithMasks(Counting):
    """Returns the masks it is given."""

    needs_masks: ClassVar[bool] = True

    def explain(  # type: ignore[override]
        self, model: nn.Module, images: Tensor, targets: Tensor, masks: Tensor
    ) -> Tensor:
        super().explain(model, images, targets)
        return masks


@pytest.mark.parametrize(
    ("cls", "size", "sizes"), [(Counting, 2, [2, 2, 1]), (Counting, 5, [5]), (Counting, 32, [5]), (Whole, 2, [5])]
)
def test_images_come_in_batches_of_the_field(cls: type[Counting], size: int, sizes: list[int]) -> None:
    cls.sizes.clear()
    maps = cls(internal_batch_size=size)(CLASSIFIER, IMAGES, TARGETS)
    assert maps[:, 0, 0, 0].tolist() == [0, 2, 4, 6, 8]
    assert maps.shape == (5, 1, 4, 4)
    assert cls.sizes == sizes


def test_masks_are_split_with_their_images() -> None:
    masks = torch.rand(5, 1, 4, 4)
    assert torch.equal(WithMasks(internal_batch_size=2)(CLASSIFIER, IMAGES, TARGETS, masks=masks), masks)
