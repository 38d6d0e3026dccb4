"""captum's and Quantus' own tools take LAP as they take any captum method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from captum.attr import Attribution, NoiseTunnel, Saliency, visualization
from captum.metrics import infidelity, infidelity_perturb_func_decorator, sensitivity_max
from torch import Tensor

from interp_core import LapModel
from interp_core.deploy.captum_api import LapAttribution, class_indices
from interp_core.errors import ContractError

matplotlib.use("Agg")

MakeLap = Callable[..., LapModel]


@pytest.fixture
def lap(make_lap: MakeLap) -> LapModel:
    return make_lap().eval()


@pytest.fixture
def method(lap: LapModel) -> LapAttribution:
    return LapAttribution(lap)


@pytest.mark.slow
def test_it_is_a_captum_method(method: LapAttribution, lap: LapModel) -> None:
    assert isinstance(method, Attribution)
    assert method.forward_func is lap
    assert method.get_name() == "Lap Attribution"
    assert method.has_convergence_delta() is False
    assert method.multiplies_by_inputs is True
    with pytest.raises(NotImplementedError):
        method.attribute_future()


def test_attributions_sum_over_channels_to_the_map(method: LapAttribution, lap: LapModel, images: Tensor) -> None:
    attributions = method.attribute(images, target=1)
    assert attributions.shape == images.shape
    assert attributions.dtype == images.dtype
    assert attributions.is_contiguous()
    assert not attributions.requires_grad
    torch.testing.assert_close(attributions.sum(1, keepdim=True), lap.explain(images, 1).map)
    assert torch.equal(attributions[:, 0], attributions[:, 2])
    assert float(attributions.max()) > 0


def test_the_map_itself_on_request(method: LapAttribution, lap: LapModel, images: Tensor) -> None:
    assert torch.equal(method.attribute(images, 1, one_channel=True), lap.explain(images, 1).map)


def test_one_channel_of_one(make_lap: MakeLap, images_of: Callable[..., Tensor]) -> None:
    lap, images = make_lap(in_chans=1).eval(), images_of(64, 64, channels=1)
    assert torch.equal(LapAttribution(lap).attribute(images, 2), lap.explain(images, 2).map)


def test_inputs_that_ask_for_a_gradient(method: LapAttribution, images: Tensor) -> None:
    expected = method.attribute(images, 1)
    images.requires_grad_()
    assert torch.equal(method.attribute(images, 1), expected)
    assert images.grad is None


@pytest.mark.slow
def test_the_type_of_the_inputs_is_kept(lap: LapModel, images: Tensor) -> None:
    double = LapAttribution(lap.double()).attribute(images.double(), 1)
    assert double.dtype == torch.float64


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "classes"),
    [
        (1, [1, 1]),
        (np.int64(1), [1, 1]),
        ((1,), [1, 1]),
        (torch.tensor(1), [1, 1]),
        (torch.tensor([1]), [1, 1]),
        (torch.tensor([1, 3]), [1, 3]),
        ([1, 3], [1, 3]),
        ([(1,), (3,)], [1, 3]),
        (torch.tensor([1, 3], dtype=torch.int32), [1, 3]),
    ],
)
def test_targets_mean_what_they_mean_to_captum(
    form: Any, classes: list[int], method: LapAttribution, lap: LapModel, images: Tensor
) -> None:
    expected = lap.explain(images, torch.tensor(classes)).map
    assert torch.equal(method.attribute(images, target=form, one_channel=True), expected)
    if not isinstance(form, np.integer) and getattr(form, "dtype", None) is not torch.int32:  # captum takes neither
        saliency = Saliency(lap)
        theirs = saliency.attribute(images.clone().requires_grad_(), target=form)
        own = saliency.attribute(images.clone().requires_grad_(), target=torch.tensor(classes))
        torch.testing.assert_close(theirs, own)


@pytest.mark.slow
def test_no_target_is_the_predicted_class(method: LapAttribution, lap: LapModel, images: Tensor) -> None:
    assert torch.equal(method.attribute(images, one_channel=True), lap.explain(images, lap(images).argmax(1)).map)


@pytest.mark.slow
@pytest.mark.parametrize(
    "target",
    [
        (1, 2),
        [(1, 2), (1, 3)],
        [1],
        [1, 2, 3],
        ["1", "2"],
        [1.5, 2.5],
        "1",
        torch.tensor([[1], [2]]),
        4,
        -1,
        [0, 4],
        [],
    ],
)
def test_other_targets_are_refused(target: Any, method: LapAttribution, images: Tensor) -> None:
    with pytest.raises(ContractError):
        method.attribute(images, target=target)


def test_a_list_of_one_is_not_one_for_all() -> None:
    assert class_indices([2]).shape == (1,)  # type: ignore[union-attr]
    assert class_indices(torch.tensor([2])).shape == ()  # type: ignore[union-attr]


def test_a_tuple_gives_a_tuple(method: LapAttribution, images: Tensor) -> None:
    (attributions,) = method.attribute((images,), target=1)
    assert torch.equal(attributions, method.attribute(images, target=1))
    with pytest.raises(ContractError, match="tuple of 2"):
        method.attribute((images, images), target=1)


@pytest.mark.slow
def test_arguments_a_lap_model_does_not_have_are_refused(method: LapAttribution, images: Tensor) -> None:
    with pytest.raises(ContractError, match="additional_forward_args"):
        method.attribute(images, 1, torch.zeros(2))
    with pytest.raises(ContractError, match="attach LAP"):
        LapAttribution(torch.nn.Identity())  # type: ignore[arg-type]


@pytest.mark.slow
def test_captum_smooths_it(method: LapAttribution, lap: LapModel, images: Tensor) -> None:
    tunnel = NoiseTunnel(method)
    torch.manual_seed(0)
    smoothed = tunnel.attribute(images, nt_type="smoothgrad", nt_samples=4, stdevs=0.1, target=[1, 3])
    torch.manual_seed(0)
    noisy = images.repeat_interleave(4, dim=0) + torch.normal(0, torch.full((8, *images.shape[1:]), 0.1))
    expected = method.attribute(noisy, target=[1, 1, 1, 1, 3, 3, 3, 3]).unflatten(0, (2, 4)).mean(1)
    torch.testing.assert_close(smoothed, expected)
    batched = tunnel.attribute(
        images, nt_type="vargrad", nt_samples=3, nt_samples_batch_size=2, stdevs=0.1, target=1, one_channel=True
    )
    assert batched.shape == (2, 1, 64, 64)


@pytest.mark.slow
def test_noise_of_nothing_changes_nothing(method: LapAttribution, images: Tensor) -> None:
    tunnel = NoiseTunnel(method)
    smoothed = tunnel.attribute((images,), nt_samples=2, stdevs=0.0, target=torch.tensor([1, 3]))
    torch.testing.assert_close(smoothed[0], method.attribute(images, target=[1, 3]))


@pytest.mark.slow
def test_captum_measures_its_sensitivity(method: LapAttribution, images: Tensor) -> None:
    still = sensitivity_max(method.attribute, images, perturb_func=lambda x: x, n_perturb_samples=2, target=[1, 3])
    torch.testing.assert_close(still, torch.zeros(2), atol=1e-5, rtol=0)
    torch.manual_seed(0)
    sensitivity = sensitivity_max(
        method.attribute, images, perturb_radius=0.1, n_perturb_samples=3, target=torch.tensor(1)
    )
    assert sensitivity.shape == (2,)
    assert bool((sensitivity > 1e-3).all())
    assert bool(sensitivity.isfinite().all())


def test_captum_measures_its_infidelity(method: LapAttribution, lap: LapModel, images: Tensor) -> None:
    @infidelity_perturb_func_decorator(method.multiplies_by_inputs)
    def drop(inputs: Tensor) -> Tensor:
        return inputs * (torch.rand(inputs.shape, generator=torch.Generator().manual_seed(0)) > 0.2)

    arguments: dict[str, Any] = {"n_perturb_samples": 4, "target": [1, 3], "normalize": True}
    with torch.no_grad():
        ours = infidelity(lap, drop, images, method.attribute(images, [1, 3]), **arguments)
        doubled = infidelity(lap, drop, images, 2 * method.attribute(images, [1, 3]), **arguments)
    assert ours.shape == (2,)
    assert bool((ours > 0).all())
    torch.testing.assert_close(ours, doubled)


def test_captum_shows_it(method: LapAttribution, images: Tensor) -> None:
    attribution = method.attribute(images, 1)[0].permute(1, 2, 0).numpy()
    image = images[0].permute(1, 2, 0).sigmoid().numpy()
    figure, axes = visualization.visualize_image_attr(
        attribution, image, method="heat_map", sign="positive", use_pyplot=False
    )
    picture = np.asarray(axes.get_images()[0].get_array())
    expected = attribution.sum(2)
    # captum cuts the highest two percent; what it cuts to is one scale for all.
    inside = (picture > 0) & (picture < 1)
    assert inside.mean() > 0.5
    ratio = picture[inside] / expected[inside]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
    assert figure is not None


@pytest.mark.slow
def test_quantus_takes_it_as_a_captum_method(lap: LapModel, images: Tensor) -> None:
    quantus = pytest.importorskip("quantus")

    def explain(model: LapModel, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> np.ndarray:
        attributions = LapAttribution(model).attribute(torch.as_tensor(inputs), target=torch.as_tensor(targets))
        return attributions.sum(1, keepdim=True).numpy()

    arguments = {"model": lap, "x_batch": images.numpy(), "y_batch": np.array([1, 3]), "device": "cpu"}
    metric = quantus.Sparseness(disable_warnings=True, normalise=False)
    through = metric(**arguments, a_batch=None, explain_func=explain)
    maps = lap.explain(images, torch.tensor([1, 3])).map.numpy()
    scores = quantus.Sparseness(disable_warnings=True, normalise=False)(**arguments, a_batch=maps)
    np.testing.assert_allclose(through, scores, rtol=1e-5)
    assert all(0 < score < 1 for score in through)


@pytest.mark.slow
def test_nothing_is_left_behind(
    method: LapAttribution, lap: LapModel, images: Tensor, snapshot: Callable[..., dict]
) -> None:
    lap.train()
    before = snapshot(lap)
    method.attribute(images, 1)
    assert snapshot(lap) == before
