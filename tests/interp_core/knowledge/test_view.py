"""What a term means by `of`, and what the recorded pass shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import interp_core
from interp_core import LapModel
from interp_core.backbone.geometry import resize
from interp_core.errors import ContractError, UnknownNameError
from interp_core.knowledge import Absence, Area, Forbid, Presence, Region, View, columns_of, observe, terms, view_of
from interp_core.knowledge.observe import LIKELY_ABSENT, MAX_ALL_CLASSES

MakeLap = Callable[..., LapModel]

MAPS = torch.arange(12.0).reshape(1, 3, 2, 2) / 12


def make_named_view() -> View:
    return view_of(
        MAPS,
        torch.tensor([[1.0, 0.0, 1.0]]),
        names=("cat", "dog", "fur"),
        below={"stem": torch.full((1, 2, 4, 4), 0.25), "body": torch.full((1, 2, 2, 2), 0.5)},
        concepts={"stem": ("any", "dog's ear"), "body": ("any", "tail")},
    )


@pytest.mark.parametrize(
    ("of", "present", "absent"),
    [
        ("all", [1, 0, 1], [0, 1, 0]),
        (0, [1, 0, 0], [0, 0, 0]),
        ("dog", [0, 0, 0], [0, 1, 0]),
        (("cat", 1), [1, 0, 0], [0, 1, 0]),
        (("cat", "all"), [1, 0, 1], [0, 1, 0]),
    ],
)
def test_classes_by_index_or_name(of: str | int | tuple, present: list[int], absent: list[int]) -> None:
    subject = make_named_view().head(of)
    assert subject.present[0].tolist() == present
    assert subject.absent[0].tolist() == absent


def test_concepts_by_name() -> None:
    view = make_named_view()
    (tail,) = view.subjects("tail")
    assert (tail.level, tail.maps.tolist()) == ("body", [[[[0.5, 0.5]] * 2]])
    assert tail.present.tolist() == [[1]]
    assert [subject.level for subject in view.subjects("any")] == ["stem", "body"]
    assert [subject.level for subject in view.subjects("stem:any")] == ["stem"]
    assert [subject.level for subject in view.subjects(("tail", "cat", 1))] == ["head", "body"]


@pytest.mark.parametrize(("by", "there"), [("dog", 0), ("cat", 1), (("dog", "cat"), 1), (1, 0)])
def test_a_concept_is_there_where_its_classes_are(by: str | int | tuple, there: int) -> None:
    (subject,) = make_named_view().subjects("tail", by)
    assert subject.present.tolist() == [[there]]
    assert subject.absent.tolist() == [[1 - there]]


def test_a_concept_named_after_a_class_follows_it() -> None:
    view = make_named_view()
    view.concepts = {"stem": ("any", "dog"), "body": ("any", "tail")}
    (subject,) = view.subjects("stem:dog")
    assert (subject.level, subject.present.tolist()) == ("stem", [[0]])


def test_terms_speak_of_what_they_are_told() -> None:
    view = make_named_view()
    assert Area(low=0, high=0.1, of="tail").loss(view).item() == pytest.approx(0.4**2)
    assert Area(low=0, high=0.1, of=("tail", "stem:any")).loss(view).item() == pytest.approx((0.4**2 + 0.15**2) / 2)
    assert Presence(of="tail", shown_by="dog").loss(view).item() == 0
    assert Absence(of="tail", shown_by="dog").loss(view).item() == pytest.approx(0.6931, abs=1e-3)


@pytest.mark.parametrize(
    ("of", "message"),
    [("dgo", "did you mean dog"), (3, "0 to 2"), ("stem:tail", "unknown class or concept"), (-1, "unknown class")],
)
def test_what_is_not_there_is_named(of: str | int, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        make_named_view().subjects(of)
    with pytest.raises(UnknownNameError, match="unknown class 'lion'"):
        make_named_view().subjects("tail", "lion")


def test_columns_say_which_class_they_are_of() -> None:
    view = make_named_view()
    view.classes, view.logits = torch.tensor([[7, 2, 9]]), torch.zeros(1, 10)
    assert view.head(9).present[0].tolist() == [0, 0, 1]
    assert view.head((2, 5)).absent[0].tolist() == [0, 1, 0]
    assert view.classes_of(torch.tensor([2])).tolist() == [9]
    assert make_named_view().classes_of(torch.tensor([2])).tolist() == [2]


def test_a_view_without_a_model_says_so() -> None:
    for ask in (lambda v: v.contributions, lambda v: v.logits_of(v.images), lambda v: v.maps_of(v.images)):
        with pytest.raises(ContractError, match="made without a model"):
            ask(make_named_view())


def test_few_classes_are_all_columns_and_of_many_the_present_and_the_likely() -> None:
    assert columns_of(torch.zeros(2, MAX_ALL_CLASSES), torch.zeros(2, MAX_ALL_CLASSES)) is None
    logits = torch.randn(3, 200, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(3, 200)
    labels[0, [5, 17, 150]] = labels[1, 3] = 1
    columns = columns_of(logits, labels)
    assert columns is not None
    assert columns.shape == (3, 3 + LIKELY_ABSENT)
    assert set(columns[0, :3].tolist()) == {5, 17, 150}
    assert columns[1, 0] == 3
    assert columns[2].tolist() == logits[2].topk(3 + LIKELY_ABSENT).indices.tolist()
    assert all(len(set(row.tolist())) == 3 + LIKELY_ABSENT for row in columns)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_050"])
def test_the_view_of_a_pass(make_lap: MakeLap, images: Tensor, name: str) -> None:
    lap, targets = make_lap(name), torch.tensor([2, 0])
    view = observe(lap, images, targets)
    torch.testing.assert_close(view.logits, lap(images))
    assert view.classes is None
    assert view.labels.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    assert list(view.below) == [site.module for site in lap.sites]
    explanation = lap.explain(images, targets)
    for n, k in enumerate(targets.tolist()):
        torch.testing.assert_close(view.maps[n, k], explanation.head.concepts[n, 0], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(view.contributions[n, k], explanation.head.contributions[n, 0], atol=1e-6, rtol=1e-5)


def test_evidence_of_every_column_adds_up_to_its_logit(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap()
    view = observe(lap, images, torch.tensor([2, 0]))
    bias = lap.get_classifier().bias
    torch.testing.assert_close(view.contributions.sum((2, 3)) + bias, view.logits, atol=1e-5, rtol=1e-5)  # type: ignore[operator]


@pytest.mark.slow
def test_evidence_of_a_head_with_hidden_layers_is_its_first_order(make_lap: MakeLap, images: Tensor) -> None:
    lap, targets = make_lap("vgg11_bn"), torch.tensor([2, 0])
    assert not lap.info.linear_head
    view, explanation = observe(lap, images, targets), lap.explain(images, targets)
    for n, k in enumerate(targets.tolist()):
        torch.testing.assert_close(view.contributions[n, k], explanation.head.contributions[n, 0], atol=1e-5, rtol=1e-4)
    view.contributions.sum().backward()
    assert lap.head.a.grad is not None
    with torch.no_grad():
        torch.testing.assert_close(observe(lap, images, targets).contributions, view.contributions.detach())
    with torch.inference_mode(), pytest.raises(ContractError, match=r"do without torch\.inference_mode"):
        _ = observe(lap, images, targets).contributions


def test_the_loss_of_a_region_is_the_share_outside_at_input_resolution(make_lap: MakeLap, images: Tensor) -> None:
    lap, targets = make_lap(), torch.tensor([2, 0])
    masks = torch.zeros(2, 1, 64, 64)
    masks[:, :, 10:40, 20:64] = 1
    explanation = lap.explain(images, targets)
    cells = explanation.concept * explanation.head.contributions.clamp(min=0)
    maps = resize(cells, 64, 64, lap.info.grid_of((64, 64)))
    outside = 1 - (maps * masks).sum((1, 2, 3)) / maps.sum((1, 2, 3))
    view = observe(lap, images, targets, regions={"object": masks, "irrelevant": 1 - masks})
    for term in (Region(evidence="map"), Forbid(evidence="map")):
        assert term.loss(view).item() == pytest.approx(outside.mean().item(), abs=1e-3)


@pytest.mark.slow
def test_another_pass_answers_as_the_model_does_and_leaves_it_as_it_was(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap()
    view = observe(lap, images, torch.tensor([2, 0]))
    torch.testing.assert_close(view.logits_of(images.flip(-1)), lap(images.flip(-1)))
    torch.testing.assert_close(view.maps_of(images), view.maps)
    lap.train()
    view = observe(lap, images, torch.tensor([2, 0]))
    state = {key: value.clone() for key, value in lap.state_dict().items()}
    torch.testing.assert_close(view.logits_of(images), view.logits)  # by the statistics of the batch, as in training
    view.maps_of(images.flip(-1))
    assert all(torch.equal(value, state[key]) for key, value in lap.state_dict().items())
    lap(images)
    assert any(not torch.equal(value, state[key]) for key, value in lap.state_dict().items())


def test_wrappers_are_seen_through(make_lap: MakeLap, images: Tensor) -> None:
    class DataParallel(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module, self.passes = module, 0

        def forward(self, *arguments: Any) -> Tensor:
            self.passes += 1
            return self.module(*arguments)

    lap, targets = make_lap(), torch.tensor([2, 0])
    wrapped = DataParallel(lap)
    view = observe(wrapped, images, targets)
    torch.testing.assert_close(view.maps, observe(lap, images, targets).maps)
    view.logits_of(images)
    assert wrapped.passes == 1


@pytest.mark.slow
def test_a_plain_network_has_nothing_to_show(make_lap: MakeLap, images: Tensor) -> None:
    plain = interp_core.detach(make_lap())
    with pytest.raises(ContractError, match="need a LAP model, got"):
        observe(plain, images, torch.tensor([2, 0]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [torch.bfloat16])
def test_half_precision_gives_losses_in_single(make_lap: MakeLap, images: Tensor, kind: torch.dtype) -> None:
    lap = make_lap(refine=True)
    regions = {name: torch.ones(2, 1, 64, 64) for name in ("object", "irrelevant")}
    with torch.autocast("cpu", kind):
        inside = observe(lap, images, torch.tensor([2, 0]), regions=regions)
        losses = {name: term().loss(inside) for name, term in terms.items()}
    for name, loss in losses.items():
        assert loss.dtype == torch.float32, name
        assert loss.isfinite(), name
    assert inside.contributions.dtype == torch.float32
