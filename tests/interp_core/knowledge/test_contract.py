"""What every registered term must keep to, on real networks: one backward pass, any targets, any number of classes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import interp_core
from interp_core import LapModel
from interp_core.knowledge import Term, View, observe, terms
from interp_core.knowledge.observe import LIKELY_ABSENT

pytestmark = pytest.mark.slow

MakeLap = Callable[..., LapModel]
NAMES = sorted(terms)
ONE = torch.tensor([2, 0])
SEVERAL = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])


def regions_of(images: Tensor) -> dict[str, Tensor]:
    masks = torch.full((len(images), 1, *images.shape[-2:]), float("nan"))
    masks[0] = 0
    masks[0, :, 8:40, 8:40] = 1
    return {"object": masks, "irrelevant": 1 - masks}


def make_view(lap: LapModel, images: Tensor, targets: Tensor = ONE, seed: int = 0) -> View:
    generator = torch.Generator().manual_seed(seed)
    return observe(lap, images, targets, regions=regions_of(images), generator=generator)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("targets", [ONE, SEVERAL], ids=["one", "several"])
def test_a_loss_is_a_finite_scalar_with_a_gradient(
    make_lap: MakeLap, images: Tensor, name: str, targets: Tensor
) -> None:
    torch.manual_seed(0)
    lap = make_lap(refine=terms[name].needs_refiner).train()
    nn.init.normal_(lap.head.scorer.expand.weight, std=0.1)
    loss = terms[name](**{"high": 0.01, "low": 0.0} if name == "area" else {}).loss(make_view(lap, images, targets))
    assert loss.shape == ()
    assert loss.item() > 0
    loss.backward()
    grads = {key: p.grad for key, p in lap.named_parameters() if p.grad is not None}
    assert any(bool(grad.any()) for grad in grads.values())
    assert all(bool(grad.isfinite().all()) for grad in grads.values())


@pytest.mark.parametrize("name", NAMES)
def test_descending_lowers_what_a_term_asks(make_lap: MakeLap, images: Tensor, name: str) -> None:
    torch.manual_seed(0)
    # Strong gates let scores change the network, which `own_order` holds constant: its loss is no promise there.
    lap = make_lap(a=0.5, refine=terms[name].needs_refiner).eval()
    nn.init.normal_(lap.head.scorer.expand.weight, std=0.1)
    term = terms[name](**{"high": 0.01, "low": 0.0} if name == "area" else {})
    parameters = [parameter for key, parameter in lap.named_parameters() if not key.startswith("backbone.")]
    optimizer, values = torch.optim.Adam(parameters, lr=0.003), []  # at 0.01 the effects of `removal` overshoot
    for _ in range(20):
        loss = term.loss(make_view(lap, images))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.98 * values[0]


@pytest.mark.parametrize("family", ["test_resnet", "mobilenetv3_small_050", "vgg11_bn", "convnext_atto"])
def test_all_terms_take_one_backward_pass_together(make_lap: MakeLap, images: Tensor, family: str) -> None:
    """Also through hard sigmoids and heads with hidden layers; the former have no second derivative at all."""
    lap = make_lap(family, refine=True).train()
    view = make_view(lap, images)
    torch.stack([terms[name]().loss(view) for name in NAMES]).sum().backward()
    learned = [p.grad for p in lap.head.parameters() if p.grad is not None]
    assert learned
    assert all(bool(grad.isfinite().all()) for grad in learned)


def test_hard_sigmoids_would_refuse_a_second_derivative(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap("mobilenetv3_small_050")
    leaf = images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(lap(leaf).sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="hardsigmoid_backward is not implemented"):
        slope.square().sum().backward()


class Shapes(TorchDispatchMode):
    """Collects the shape of every tensor an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func, _types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, Tensor):
                self.found.add(tuple(value.shape))
        return out


def test_a_thousand_classes_make_no_thousand_maps(images: Tensor, make_backbone: Callable[..., nn.Module]) -> None:
    lap = interp_core.attach(make_backbone(classes=1000), refine=True).train()
    with Shapes() as shapes:
        view = make_view(lap, images, torch.tensor([999, 3]))
        torch.stack([terms[name]().loss(view) for name in NAMES]).sum().backward()
    assert view.logits.shape == (2, 1000)
    assert view.maps.shape[:2] == view.contributions.shape[:2] == (2, 1 + LIKELY_ABSENT)
    assert view.classes is not None
    assert view.classes[:, 0].tolist() == [999, 3]
    assert view.labels.tolist() == [[1.0] + [0.0] * LIKELY_ABSENT] * 2
    classifier = lap.get_classifier()
    assert isinstance(classifier, nn.Linear)
    with_classes = {shape for shape in shapes.found if 1000 in shape}
    assert with_classes
    allowed = max(classifier.weight.numel(), 2 * 1000)
    assert all(torch.Size(shape).numel() <= allowed for shape in with_classes)
    assert not any(shape.count(1000) > 1 for shape in with_classes)
    assert not any(len(shape) == 3 or (len(shape) == 4 and shape[-1] > 1) for shape in with_classes)


def test_columns_of_many_classes_are_those_of_all(images: Tensor, make_backbone: Callable[..., nn.Module]) -> None:
    lap = interp_core.attach(make_backbone(classes=100))
    for block in (*lap.gates, lap.head):
        nn.init.constant_(block.a, 1.0)
    targets = torch.tensor([99, 3])
    view = observe(lap, images, targets)
    explanation = lap.explain(images, targets)
    torch.testing.assert_close(view.maps[:, :1], explanation.head.concepts)
    torch.testing.assert_close(view.contributions[:, :1], explanation.head.contributions)
    torch.testing.assert_close(view.maps_of(images), view.maps)
    torch.testing.assert_close(view.maps_of(images[:1]), view.maps[:1])


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_one_loss(make_lap: MakeLap, images: Tensor, name: str) -> None:
    lap = make_lap(refine=terms[name].needs_refiner)
    first, second = (terms[name]().loss(make_view(lap, images, seed=3)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", NAMES)
def test_a_term_is_read_from_yaml(name: str) -> None:
    fields = yaml.safe_load("{weight: 0.25, of: [0, dog, 'stem:fur'], shown_by: cat}")
    term = terms[name](**fields)
    assert (term.weight, term.of, term.shown_by) == (0.25, (0, "dog", "stem:fur"), "cat")
    assert terms[name](**term.model_dump(mode="json")) == term
    assert set(terms[name].model_json_schema()["properties"]) >= {"weight", "of", "shown_by"}


@pytest.mark.parametrize("name", NAMES)
def test_a_term_says_what_it_is(name: str) -> None:
    cls = terms[name]
    assert cls.name == name
    assert cls.__doc__
    assert issubclass(cls, Term)
    fields = set(cls.model_fields) - set(Term.model_fields)
    assert all(any(f"{field}:" in (base.__doc__ or "") for base in cls.__mro__) for field in fields)


def test_passes_are_as_many_as_a_term_says(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap(refine=True)
    passes: list[int] = []
    lap.register_forward_hook(lambda *_: passes.append(1))
    for name in NAMES:
        view = make_view(lap, images)
        passes.clear()
        terms[name]().loss(view)
        assert len(passes) == terms[name]().passes, name
