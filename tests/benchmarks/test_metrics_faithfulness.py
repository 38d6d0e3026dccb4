from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from benchmarks.metrics import Batch, metrics
from benchmarks.metrics.faithfulness import (
    FaithfulnessCorrelation,
    PixelFlipping,
    RegionPerturbation,
    area_under,
    features_in_step,
    nearest_divisor,
    patch_side,
)
from benchmarks.metrics.maps import ranks
from benchmarks.metrics.quantus_adapter import predictions
from interp_core.errors import ContractError


class Linear(nn.Module):
    """Two classes with logits 0 and w . x."""

    def __init__(self, weight: np.ndarray) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(weight.astype(np.float32)))

    def forward(self, images: Tensor) -> Tensor:
        logit = (images * self.weight).sum((1, 2, 3))
        return torch.stack([torch.zeros_like(logit), logit], 1)


def linear_case(n: int = 4, channels: int = 1, side: int = 16, scale: float = 0.2) -> Batch:
    """A linear network and, as map, the exact contribution of each pixel."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((channels, side, side)) * scale
    images = rng.standard_normal((n, channels, side, side)).astype(np.float32)
    maps = (images * weight).sum(1, keepdims=True).astype(np.float32)
    return Batch(Linear(weight).eval(), images, np.ones(n, np.int64), maps, None, seed=1)


def patch_case(side: int = 16) -> Batch:
    """A network that looks at one of 8 x 8 regions only, with its logit at 4 until that region goes."""
    size = side // 8
    weight = np.zeros((1, side, side))
    weight[:, 3 * size : 4 * size, 5 * size : 6 * size] = 4 / size**2
    images = np.ones((2, 1, side, side), np.float32)
    maps = np.repeat(weight[None], 2, 0).astype(np.float32)
    return Batch(Linear(weight).eval(), images, np.ones(2, np.int64), maps, None)


def net_case(n: int = 5) -> Batch:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=4, output_stride=8).eval()
    rng = np.random.default_rng(4)
    images = rng.standard_normal((n, 3, 32, 32)).astype(np.float32)
    maps = rng.standard_normal((n, 1, 32, 32)).astype(np.float32)
    return Batch(model, images, rng.integers(0, 4, n), maps, None, seed=2)


def plain_curve(batch: Batch, index: int, order: np.ndarray, pixels: int) -> np.ndarray:
    """Probabilities of one image's target while `pixels` pixels go at a time, without Quantus."""
    assert batch.model is not None
    image, target = torch.from_numpy(batch.images[index].copy()), int(batch.targets[index])
    flat, curve = image.view(len(image), -1), []
    with torch.no_grad():
        for step in range(len(order) // pixels + 1):
            curve.append(batch.model(image[None]).softmax(1)[0, target].item())
            flat[:, order[step * pixels : (step + 1) * pixels].copy()] = 0
    return np.array(curve)


class TestSteps:
    @pytest.mark.parametrize(
        ("shape", "expected"),
        [((3, 64, 64), 512), ((3, 224, 224), 6272), ((3, 32, 32), 128), ((1, 28, 28), 28), ((1, 64, 64), 128)],
    )
    def test_features_in_step(self, shape: tuple[int, ...], expected: int) -> None:
        assert features_in_step(shape, 24) == expected

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_every_multiple_of_eight_can_be_cut(self, channels: int) -> None:
        for side in range(8, 520, 8):
            step = features_in_step((channels, side, side), 24)
            assert side * side % step == 0
            assert 12 <= channels * side * side / step <= 48
            assert patch_side((channels, side, side), 8) == side // 8

    @pytest.mark.parametrize(("shape", "side"), [((3, 28, 28), 4), ((3, 299, 299), 23), ((3, 48, 64), 8)])
    def test_patch_side(self, shape: tuple[int, ...], side: int) -> None:
        assert patch_side(shape, 8) == side

    @pytest.mark.parametrize("side", [37, 331])
    def test_sides_that_cannot_be_cut_are_an_error_that_says_so(self, side: int) -> None:
        with pytest.raises(ContractError, match=f"{side} x {side}.*multiple of 8"):
            patch_side((3, side, side), 8)
        with pytest.raises(ContractError, match=f"{side} x {side}.*multiple of 8"):
            features_in_step((3, side, side), 24)

    def test_nearest_divisor(self) -> None:
        assert [nearest_divisor(12, wanted) for wanted in (1, 5, 12, 24)] == [1, 6, 12, 12]
        assert nearest_divisor(13, 4) is None

    @pytest.mark.parametrize("side", [28, 20, 36])
    def test_odd_sizes_are_scored_whole(self, side: int) -> None:
        case = linear_case(2, 3, side)
        for name in ("pixel_flipping", "region_perturbation"):
            assert (metrics[name]()(case)[name] > 0).all()

    @pytest.mark.parametrize("bad", [{"steps": 1}, {"steps": "many"}, {"stepz": 3}])
    def test_bad_parameters_are_refused(self, bad: dict) -> None:
        with pytest.raises(ValidationError):
            PixelFlipping(**bad)


class TestPixelFlipping:
    def test_area(self) -> None:
        curves = np.array([[1.0, 1.0, 1.0], [1.0, 0.5, 0.0], [1.0, 0.0, 0.0]])
        assert area_under(curves).tolist() == [1.0, 0.5, 0.25]

    @pytest.mark.parametrize(("channels", "side", "pixels"), [(1, 16, 8), (3, 12, 6)])
    def test_curves_agree_with_a_plain_loop(self, channels: int, side: int, pixels: int) -> None:
        case = linear_case(3, channels, side)
        curves = PixelFlipping().curves(case, ranks(case.maps), predictions(case))
        for index, curve in enumerate(curves):
            order = np.argsort(-case.maps[index].ravel(), kind="stable")
            assert np.allclose(curve, plain_curve(case, index, order, pixels), atol=1e-6)

    def test_scores_agree_with_a_plain_loop_on_a_network(self) -> None:
        case = replace(net_case(2), images=net_case(2).images[:, :, :24, :24], maps=net_case(2).maps[:, :, :24, :24])
        step = features_in_step((3, 24, 24), 24)
        assert step % 3 == 0
        values = PixelFlipping()(case)
        for index in range(2):
            order = np.argsort(-case.maps[index].ravel(), kind="stable")
            morf, lerf = (area_under(plain_curve(case, index, way, step // 3)[None])[0] for way in (order, order[::-1]))
            found = [values[f"pixel_flipping{end}"][index] for end in ("_morf", "_lerf", "")]
            assert np.allclose(found, [morf, lerf, lerf - morf], atol=2e-5)

    def test_the_exact_map_of_a_linear_network_is_best_and_its_negative_worst(self) -> None:
        case = linear_case()
        rng = np.random.default_rng(7)
        exact = PixelFlipping()(case)
        for maps in (rng.standard_normal(case.maps.shape), np.abs(case.maps), rng.random(case.maps.shape) * case.maps):
            other = PixelFlipping()(replace(case, maps=maps.astype(np.float32)))
            assert (exact["pixel_flipping_morf"] < other["pixel_flipping_morf"]).all()
            assert (exact["pixel_flipping_lerf"] > other["pixel_flipping_lerf"]).all()
        turned = PixelFlipping()(replace(case, maps=-case.maps))
        assert np.allclose(turned["pixel_flipping"], -exact["pixel_flipping"], atol=1e-3)

    def test_monotone_transforms_change_nothing(self) -> None:
        case = linear_case()
        values, cubed = (PixelFlipping().score(replace(case, maps=maps)) for maps in (case.maps, 5 + case.maps**3))
        assert all(np.allclose(values[key], cubed[key], atol=1e-6) for key in values)


class TestRegionPerturbation:
    @pytest.mark.parametrize("side", [16, 64])
    def test_known_drops_of_a_network_that_looks_at_one_region(self, side: int) -> None:
        case, gain = patch_case(side), 1 / (1 + np.exp(-4)) - 0.5
        right, wrong = RegionPerturbation()(case), RegionPerturbation()(replace(case, maps=-case.maps))
        assert np.allclose(right["region_perturbation_morf"], gain, atol=1e-6)
        assert np.allclose(right["region_perturbation_lerf"], gain / 64, atol=1e-6)
        assert np.allclose(right["region_perturbation"], gain * 63 / 64, atol=1e-6)
        assert np.allclose(wrong["region_perturbation"], -gain * 63 / 64, atol=1e-6)

    def test_all_regions_are_removed_and_the_order_is_by_sums(self) -> None:
        case = linear_case(2, 3)
        sums = case.maps.reshape(2, 8, 2, 8, 2).sum((2, 4)).reshape(2, -1)
        drops = RegionPerturbation().drops(case, "morf")
        assert drops.shape == (2, 64)
        logits = case.maps.sum((1, 2, 3))[:, None] - np.cumsum(-np.sort(-sums, 1), 1)
        probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
        assert np.allclose(drops, predictions(case)[:, None] - probability, atol=1e-4)

    def test_maps_with_negative_values_only_are_scored_by_their_order(self) -> None:
        case = linear_case()
        moved = RegionPerturbation()(replace(case, maps=case.maps - 100))
        values = RegionPerturbation()(case)
        assert all(np.allclose(values[key], moved[key], atol=1e-3) for key in values)


class TestFaithfulnessCorrelation:
    def test_the_exact_map_of_a_linear_network_correlates_perfectly(self) -> None:
        case = linear_case()
        values = FaithfulnessCorrelation(runs=40)(case)["faithfulness_correlation"]
        turned = FaithfulnessCorrelation(runs=40)(replace(case, maps=-case.maps))["faithfulness_correlation"]
        assert np.allclose(values, 1, atol=1e-4)
        assert np.allclose(turned, -1, atol=1e-4)

    def test_maps_with_negative_values_only_are_scored(self) -> None:
        case = linear_case()
        values = FaithfulnessCorrelation(runs=20)(replace(case, maps=case.maps - 100))["faithfulness_correlation"]
        assert np.allclose(values, 1, atol=1e-4)

    def test_it_reads_logits(self) -> None:
        """With saturated probabilities the correlation would not be perfect."""
        case = linear_case(scale=5)
        assert np.allclose(FaithfulnessCorrelation(runs=40)(case)["faithfulness_correlation"], 1, atol=1e-4)

    def test_an_unmoved_logit_is_nan_for_that_image_only(self) -> None:
        case = linear_case()
        images = case.images.copy()
        images[2] = 0
        values = FaithfulnessCorrelation(runs=20)(replace(case, images=images))["faithfulness_correlation"]
        assert np.isnan(values).tolist() == [False, False, True, False]
        assert np.allclose(values[[0, 1, 3]], 1, atol=1e-4)

    def test_noise_is_near_zero(self) -> None:
        case = linear_case(40)
        maps = np.random.default_rng(3).standard_normal(case.maps.shape).astype(np.float32)
        values = FaithfulnessCorrelation(runs=40)(replace(case, maps=maps))["faithfulness_correlation"]
        assert abs(values.mean()) < 4 * values.std() / np.sqrt(len(values))

    def test_the_seed_decides(self) -> None:
        case = net_case(3)
        metric = FaithfulnessCorrelation(runs=10)
        first, again, other = (metric(replace(case, seed=s))["faithfulness_correlation"] for s in (1, 1, 2))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_subsets_quantus_does_not_allow_are_refused(self) -> None:
        with pytest.raises(ContractError, match="subset_size"):
            FaithfulnessCorrelation(subset_share=0.5)(linear_case(2, 3))


class TestNetwork:
    @pytest.mark.parametrize("name", ["pixel_flipping", "region_perturbation"])
    def test_an_image_alone_scores_as_in_company(self, name: str) -> None:
        case, metric = net_case(), metrics[name]()
        together = metric.score(case)
        for i in range(len(case.maps)):
            part = replace(
                case, images=case.images[i : i + 1], targets=case.targets[i : i + 1], maps=case.maps[i : i + 1]
            )
            alone = metric.score(part)
            assert all(np.allclose(together[key][i], alone[key][0], atol=1e-6) for key in together)

    @pytest.mark.parametrize("name", ["pixel_flipping", "region_perturbation", "faithfulness_correlation"])
    def test_nothing_of_the_network_changes(self, name: str) -> None:
        case = net_case(2)
        assert case.model is not None
        before = {key: value.clone() for key, value in case.model.state_dict().items()}
        modules = [(id(module), type(module), module.training) for module in case.model.modules()]
        hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in case.model.modules())
        metrics[name]()(case)
        assert all(torch.equal(value, before[key]) for key, value in case.model.state_dict().items())
        assert modules == [(id(module), type(module), module.training) for module in case.model.modules()]
        assert hooks == sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in case.model.modules())
        assert all(p.requires_grad and p.grad is None for p in case.model.parameters())
