"""The device engine against Quantus, and pinned faults of Quantus.

A pinned test fails when a new release repairs the fault; the adapter can then go.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import quantus
import torch
from helpers.cases import exact, linear_case, net_case, square_case
from torch import Tensor, nn

from baselines import explainers
from benchmarks.metrics import Batch, metrics
from benchmarks.metrics.patches import superpixels

pytestmark = pytest.mark.slow

CHEAP: dict[str, dict[str, Any]] = {
    "faithfulness_correlation": {"runs": 20},
    "sensitivity": {"samples": 3},
    "mprt": {"seeds": 2},
    "road": {"percentages": (10.0, 50.0, 90.0)},
}
FEW: dict[str, dict[str, Any]] = {"deletion": {"steps": 4}, "faithfulness_correlation": {"runs": 4}}
BOTH = [name for name, cls in metrics.items() if cls.has_reference()]
REMOVING = [name for name in BOTH if "fill" in metrics[name].model_fields]
TOLERANCE = 1e-4


def integrated_gradients(network: nn.Module, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    gradient = explainers["integrated_gradients"](steps=4)
    return gradient(network, torch.from_numpy(images), torch.from_numpy(targets)).numpy()


def real_case(n: int = 3, *, clean: bool = False) -> Batch:
    """Build a network with random weights, and maps of which some are signed and one is empty."""
    case = net_case(n)
    assert case.model is not None
    masks = np.zeros((n, 1, 32, 32), bool)
    masks[..., 4:14, 8:20] = True
    maps = integrated_gradients(case.model, case.images, case.targets)
    if not clean:
        maps[0], maps[-1] = np.maximum(maps[0], 0), 0
    return replace(case, maps=maps, masks=masks, explain=integrated_gradients)


def largest(name: str, case: Batch, **parameters: Any) -> float:
    options = {**CHEAP.get(name, {}), **parameters}
    ours, theirs = (metrics[name](engine=engine, **options)(case) for engine in ("device", "quantus"))
    assert ours.keys() == theirs.keys()
    for key in ours:
        assert np.array_equal(np.isnan(ours[key]), np.isnan(theirs[key])), key
    return max(float(np.nanmax(np.abs(ours[key] - theirs[key]))) for key in ours)


@pytest.mark.parametrize("name", BOTH)
def test_engines_agree_on_a_network(name: str) -> None:
    # Quantus explains the images again for some checks, so the maps must be the explainer's own.
    assert largest(name, real_case(clean=metrics[name].family == "check")) <= TOLERANCE


@pytest.mark.parametrize("name", [name for name in BOTH if metrics[name].family != "check"])
def test_engines_agree_on_a_case_with_a_known_answer(name: str) -> None:
    case = linear_case(2, 3, 24)
    case = replace(case, masks=np.tri(24, dtype=bool)[None, None].repeat(2, 0), explain=exact)
    assert largest(name, square_case(2) if name == "sensitivity" else case) <= TOLERANCE


@pytest.mark.parametrize("name", REMOVING)
def test_engines_agree_with_a_blur_for_a_fill(name: str) -> None:
    assert largest(name, real_case(2), fill="blur") <= TOLERANCE


@pytest.mark.parametrize("name", ["deletion", "faithfulness_correlation"])
def test_engines_agree_on_more_images_than_quantus_takes_at_once(name: str) -> None:
    assert largest(name, net_case(33), **FEW.get(name, {})) <= TOLERANCE


@pytest.mark.parametrize("name", sorted(set(metrics) - set(BOTH)))
def test_a_metric_that_quantus_has_not_says_so(name: str) -> None:
    with pytest.raises(ValueError, match="Quantus has no such metric"):
        metrics[name](engine="quantus")


# What is wrong with Quantus 0.6.


class AntiMonotone(nn.Module):
    """A network whose logit rises as the image gets darker."""

    def forward(self, images: Tensor) -> Tensor:
        return _two(-images.sum((1, 2, 3)) / 100)


def _two(logit: Tensor) -> Tensor:
    return torch.stack([torch.zeros_like(logit), logit], 1)


def arrays(n: int = 3, channels: int = 3, side: int = 16, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "x_batch": rng.random((n, channels, side, side)).astype(np.float32) + 0.1,
        "y_batch": np.ones(n, np.int64),
        "a_batch": rng.random((n, 1, side, side)) + 0.1,
    }


def quantus_metric(name: str, **options: Any) -> Any:
    settings = {"disable_warnings": True, "display_progressbar": False, "normalise": False, "return_aggregate": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(quantus, name)(**{**settings, **options})


def test_pinned_road_does_not_run_on_colour_images() -> None:
    with pytest.raises(IndexError):
        quantus_metric("ROAD", percentages=[50])(AntiMonotone().eval(), **arrays())


def test_pinned_irof_does_not_run_on_colour_images() -> None:
    with pytest.raises(AssertionError, match="mask"):
        quantus_metric("IROF")(AntiMonotone().eval(), **arrays(side=32))


@pytest.mark.skipif(hasattr(np, "trapz"), reason="NumPy here has trapz still")
def test_pinned_areas_need_a_numpy_that_is_gone() -> None:
    with pytest.raises(AttributeError, match="trapz"):
        quantus.helpers.utils.calculate_auc(np.ones(3))


def test_pinned_monotonicity_calls_an_anti_monotone_network_monotone() -> None:
    metric = quantus_metric("Monotonicity", features_in_step=32, perturb_baseline="black")
    assert all(metric(AntiMonotone().eval(), **arrays()))


def test_pinned_pointing_game_hits_empty_masks_and_constant_maps() -> None:
    inputs, masks = arrays(), np.zeros((3, 1, 16, 16), bool)
    masks[1:, 0, 0, 0] = True
    assert quantus_metric("PointingGame")(None, **inputs, s_batch=masks)[0]
    masks[0, 0, 3, 3] = True
    inputs["a_batch"][0] = 1
    assert quantus_metric("PointingGame")(None, **inputs, s_batch=masks)[0]
    case = Batch(None, inputs["x_batch"], inputs["y_batch"], inputs["a_batch"].astype(np.float32), masks)
    assert metrics["pointing_game"]()(case)["pointing_game"][0] == 0


def test_pinned_weighted_attribution_localisation_depends_on_the_size_of_the_batch() -> None:
    inputs, masks = arrays(4), np.zeros((4, 1, 16, 16), bool)
    masks[..., :8] = True
    metric = quantus_metric("AttributionLocalisation", weighted=True)
    of_three, of_four = (metric(None, **{k: v[:n] for k, v in inputs.items()}, s_batch=masks[:n])[0] for n in (3, 4))
    assert of_three != pytest.approx(of_four)


def test_pinned_infidelity_removes_one_patch_after_the_other() -> None:
    removed_shares = []

    class Recording(AntiMonotone):
        def forward(self, images: Tensor) -> Tensor:
            removed_shares.append((images == 0).float().mean().item())
            return super().forward(images)

    quantus_metric("Infidelity", perturb_patch_sizes=[8], n_perturb_samples=1, perturb_baseline=0.0)(
        Recording().eval(), **arrays(1)
    )
    assert removed_shares[-4:] == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_pinned_infidelity_needs_sides_that_the_patch_divides() -> None:
    with pytest.raises(IndexError, match="out of bounds"):
        quantus_metric("Infidelity", perturb_patch_sizes=[5], n_perturb_samples=1)(AntiMonotone().eval(), **arrays())


def test_pinned_irof_is_not_divided_by_the_number_of_superpixels() -> None:
    """A constant network loses nothing, yet Quantus gives half a superpixel."""
    inputs = arrays(1, 1, 32)
    count = int(superpixels(inputs["x_batch"]).max()) + 1

    class Constant(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return _two(0 * images.sum((1, 2, 3)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "trapz", np.trapezoid, raising=False)
        value = quantus_metric("IROF")(Constant().eval(), **inputs)
    assert np.allclose(value, 1)
    assert count > 4
    case = Batch(Constant().eval(), inputs["x_batch"], inputs["y_batch"], inputs["a_batch"].astype(np.float32), None)
    assert np.allclose(metrics["irof"]()(case)["irof_morf"], 0, atol=1e-6)


def test_pinned_top_k_does_not_run_on_small_images() -> None:
    masks = np.ones((3, 1, 16, 16), bool)
    with pytest.raises(ValueError, match="smaller than input size"):
        quantus_metric("TopKIntersection")(None, **arrays(), s_batch=masks)


def test_pinned_sparseness_writes_into_the_callers_maps() -> None:
    inputs = arrays()
    before = inputs["a_batch"].copy()
    quantus_metric("Sparseness", abs=False)(None, **inputs)
    assert not np.array_equal(inputs["a_batch"], before)
