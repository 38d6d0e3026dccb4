from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.cases import linear_case, net_case, square_case
from pydantic import ValidationError

from benchmarks.metrics import Batch, metrics
from benchmarks.metrics.flipping import Deletion, Insertion, PixelFlipping
from benchmarks.metrics.removal import area_under, features_in_step, fill_values


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


@pytest.mark.parametrize("parameters", [{"steps": 1}, {"steps": "many"}, {"stepz": 3}, {"fill": "black"}])
def test_bad_parameters_are_refused(parameters: dict) -> None:
    with pytest.raises(ValidationError):
        PixelFlipping(**parameters)


@pytest.mark.slow
@pytest.mark.parametrize("side", [28, 20, 36])
def test_odd_sizes_are_scored_whole(side: int) -> None:
    case = linear_case(2, 3, side)
    for name in ("pixel_flipping", "region_perturbation"):
        assert (metrics[name]()(case)[name] > 0).all()


class TestPixelFlipping:
    @pytest.mark.slow
    @pytest.mark.parametrize(("channels", "side", "pixels"), [(1, 16, 8), (3, 12, 6)])
    def test_curves_agree_with_a_plain_loop(self, channels: int, side: int, pixels: int) -> None:
        case = linear_case(3, channels, side)
        curves = PixelFlipping().curve(case)
        for index, curve in enumerate(curves):
            order = np.argsort(-case.maps[index].ravel(), kind="stable")
            assert np.allclose(curve, plain_curve(case, index, order, pixels), atol=1e-6)

    @pytest.mark.slow
    def test_scores_agree_with_a_plain_loop_on_a_network(self) -> None:
        case = replace(net_case(2), images=net_case(2).images[:, :, :24, :24], maps=net_case(2).maps[:, :, :24, :24])
        step = features_in_step((3, 24, 24), 24)
        assert step % 3 == 0
        values = PixelFlipping()(case)
        for index in range(2):
            order = np.argsort(-case.maps[index].ravel(), kind="stable")
            morf, lerf = (
                area_under(plain_curve(case, index, direction, step // 3)[None])[0]
                for direction in (order, order[::-1])
            )
            scores = [values[f"pixel_flipping{end}"][index] for end in ("_morf", "_lerf", "")]
            assert np.allclose(scores, [morf, lerf, lerf - morf], atol=2e-5)

    @pytest.mark.slow
    def test_the_exact_map_of_a_linear_network_is_best_and_its_negative_worst(self) -> None:
        case = linear_case()
        rng = np.random.default_rng(7)
        exact = PixelFlipping()(case)
        for maps in (rng.standard_normal(case.maps.shape), np.abs(case.maps), rng.random(case.maps.shape) * case.maps):
            worse = PixelFlipping()(replace(case, maps=maps.astype(np.float32)))
            assert (exact["pixel_flipping_morf"] < worse["pixel_flipping_morf"]).all()
            assert (exact["pixel_flipping_lerf"] > worse["pixel_flipping_lerf"]).all()
        negative = PixelFlipping()(replace(case, maps=-case.maps))
        assert np.allclose(negative["pixel_flipping"], -exact["pixel_flipping"], atol=1e-3)

    def test_monotone_transforms_change_nothing(self) -> None:
        case = linear_case()
        values, cubed = (PixelFlipping().score(replace(case, maps=maps)) for maps in (case.maps, 5 + case.maps**3))
        assert all(np.allclose(values[key], cubed[key], atol=1e-6) for key in values)


class TestDeletionAndInsertion:
    @pytest.mark.slow
    def test_deletion_is_the_morf_area(self) -> None:
        case = net_case(3)
        assert np.array_equal(Deletion()(case)["deletion"], PixelFlipping()(case)["pixel_flipping_morf"])

    @pytest.mark.slow
    def test_insertion_into_the_mean_is_the_lerf_area(self) -> None:
        case = net_case(3)
        insertion = Insertion(fill="mean")(case)["insertion"]
        assert np.array_equal(insertion, PixelFlipping()(case)["pixel_flipping_lerf"])

    def test_insertion_begins_in_the_blurred_image_and_ends_in_the_image(self) -> None:
        case = square_case(3)
        curve = Insertion().curve(case, least_first=True)
        assert case.model is not None
        for end, images in ((0, case.images), (-1, fill_values(case.images, "blur"))):
            with torch.no_grad():
                expected = case.model(torch.from_numpy(images)).softmax(1)[:, 1]
            assert np.allclose(curve[:, end], expected, atol=1e-6)
        assert not np.allclose(curve[:, 0], curve[:, -1], atol=1e-4)
