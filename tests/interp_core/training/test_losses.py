"""One step: parts of a batch, clipped gradients, mixed precision, moves of images."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.learners import MemorySource, make_smooth, make_tiny, same_weights, squares
from torch import Tensor

from interp_core import Recipe, fit
from interp_core.errors import ContractError
from interp_core.training import DEFAULT_TERMS, step_losses
from interp_core.training.augment import Moves, sample_moves
from interp_core.training.data import all_batches

pytestmark = pytest.mark.slow


def gradients(accumulate: int, count: int = 10) -> list[Tensor]:
    """What one step leaves."""
    model, (images, targets) = make_smooth(), squares(count)
    recipe = Recipe(epochs=1, batch_size=count, accumulate=accumulate, learning_rate=1e-9)
    fit(model, images, targets, recipe=recipe, terms=DEFAULT_TERMS)
    return [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("accumulate", [2, 4, 5])
def test_parts_of_a_batch_add_up_to_its_gradient(accumulate: int) -> None:
    expected, parts = gradients(1), gradients(accumulate)
    assert max(gradient.abs().max().item() for gradient in expected) > 1e-3
    torch.testing.assert_close(parts, expected, rtol=1e-4, atol=1e-7)


def test_losses_of_parts_are_those_of_the_batch() -> None:
    histories = []
    for accumulate in (1, 3):
        recipe = Recipe(epochs=1, batch_size=10, accumulate=accumulate, learning_rate=1e-9)
        histories.append(fit(make_smooth(), *squares(20), recipe=recipe, terms=DEFAULT_TERMS)[0].terms)
    assert histories[0] == pytest.approx(histories[1], rel=1e-5)


def test_a_batch_cannot_be_cut_into_single_images() -> None:
    with pytest.raises(ContractError, match="1 processes x 5 parts leaves fewer than 2"):
        fit(make_smooth(), *squares(8), recipe=Recipe(batch_size=8, accumulate=5))


def test_the_gradient_is_no_longer_than_allowed() -> None:
    free, model = gradients(1), make_smooth()
    recipe = Recipe(epochs=1, batch_size=10, learning_rate=1e-9, clip=0.01)
    fit(model, *squares(10), recipe=recipe, terms=DEFAULT_TERMS)
    clipped = [p.grad for p in model.parameters() if p.grad is not None]
    norms = [math.sqrt(sum(float(g.square().sum()) for g in group)) for group in (free, clipped)]
    assert norms[0] > 0.02
    assert norms[1] == pytest.approx(0.01, rel=1e-3)
    torch.testing.assert_close(clipped, [g * (0.01 / norms[0]) for g in free], rtol=1e-3, atol=1e-8)


def test_mixed_precision_learns_with_weights_in_single_precision() -> None:
    kinds = []
    model, (images, targets) = make_tiny(lap=True), squares()
    handle = model.backbone.body[0].register_forward_hook(lambda _m, _i, out: kinds.append(out.dtype))  # type: ignore[union-attr, index]
    recipe = Recipe(epochs=6, batch_size=16, learning_rate=0.02, precision="bf16")
    history = fit(model, images, targets, recipe=recipe)
    handle.remove()
    assert set(kinds) == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert history[-1].loss < 0.8 * history[0].loss
    assert model(images).dtype == torch.float32


def test_one_training_leaves_nothing_that_the_next_one_feels() -> None:
    first, second = make_tiny(lap=True), make_tiny(lap=True)
    fit(first, *squares(16), recipe=Recipe(epochs=1, batch_size=8))
    fit(make_tiny(lap=True), *squares(16), recipe=Recipe(epochs=1, batch_size=8, precision="bf16"))
    fit(second, *squares(16), recipe=Recipe(epochs=1, batch_size=8))
    assert same_weights(first, second)


def test_half_precision_needs_a_gpu() -> None:
    with pytest.raises(ContractError, match="'fp16' needs a GPU"):
        fit(make_tiny(lap=False), *squares(8), recipe=Recipe(batch_size=8, precision="fp16"))


def test_precision_of_the_programs_own_accelerator_is_kept() -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    try:
        with pytest.raises(ContractError, match="'fp32' is not available here"):
            fit(make_tiny(lap=False), *squares(8), recipe=Recipe(epochs=1, batch_size=8))
        fit(make_tiny(lap=False), *squares(8), recipe=Recipe(epochs=1, batch_size=8, precision="bf16"))
        assert accelerator.mixed_precision == "bf16"
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def test_flips_by_hand() -> None:
    images = torch.arange(2 * 3.0).reshape(2, 1, 1, 3)
    flipped = Moves(flips=torch.tensor([True, False]))(images)
    assert flipped.flatten(1).tolist() == [[2, 1, 0], [3, 4, 5]]
    # One pixel to the left with the edge repeated, then mirrored.
    both = Moves(torch.tensor([[[0], [0]], [[1], [1]]]), torch.tensor([True, False]))(images)
    assert both.flatten(1).tolist() == [[2, 2, 1], [4, 5, 5]]


def test_about_half_are_flipped_and_shifts_are_drawn_as_without_flips() -> None:
    plain, flipped = (sample_moves(400, 3, flip, torch.Generator().manual_seed(0)) for flip in (False, True))
    assert plain.flips is None
    assert flipped.flips is not None
    assert 150 < int(flipped.flips.sum()) < 250
    assert plain.offsets is not None
    assert torch.equal(plain.offsets, flipped.offsets)  # type: ignore[arg-type]
    selected = flipped.select(torch.tensor([5, 2]))
    assert torch.equal(selected.flips, flipped.flips[[5, 2]])  # type: ignore[index, arg-type]
    assert torch.equal(selected.offsets, flipped.offsets[:, [5, 2]])  # type: ignore[index, arg-type]


def test_batches_that_a_source_leaves_out_keep_their_place() -> None:
    class Gappy(MemorySource):
        def batches(self, indices):  # type: ignore[no-untyped-def]
            return (batch for batch in super().batches(indices) if len(batch[0]))

    images, _ = squares(12)
    indices = torch.arange(12).split(3)
    for source in (MemorySource(images, [0, 1, 2, 4, 9, 10, 11]), Gappy(images, [0, 1, 2, 4, 9, 10, 11])):
        assert [readable.tolist() for readable, _ in all_batches(source, indices)] == [[], [3, 5], [6, 7, 8], []]


def test_terms_are_not_asked_of_models_without_maps() -> None:
    images, targets = squares(4)
    assert set(step_losses(make_tiny(lap=False), images, targets, DEFAULT_TERMS)) == {"cross_entropy"}
