from __future__ import annotations

import torch

from benchmarks.diagnosis.repairs.support.edited_images import Turned, leave


def test_turned_images_are_one_of_eight_forms_of_the_same_image() -> None:
    image = torch.arange(9.0).reshape(1, 1, 3, 3).expand(200, 3, 3, 3)
    turned = Turned(leave)(image, torch.arange(200), torch.Generator().manual_seed(0))
    forms = {tuple(form.flatten().tolist()) for form in turned[:, 0]}
    quarter = [torch.rot90(image[0, 0], k) for k in range(4)]
    expected = {tuple(form.flatten().tolist()) for form in [*quarter, *(form.T for form in quarter)]}
    assert forms == expected


def test_images_that_are_not_square_keep_their_shape() -> None:
    images = torch.rand(4, 3, 2, 5)
    turned = Turned(leave)(images, torch.arange(4), torch.Generator().manual_seed(1))
    assert turned.shape == images.shape
    torch.testing.assert_close(turned.sum((2, 3)), images.sum((2, 3)))
