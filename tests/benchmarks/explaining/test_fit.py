"""A network of one's own is fitted on photographs without labels, goes on after a stop, and is not touched itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from helpers.explaining_files import CLASSES, NAME, SIDE

from benchmarks.config.weight_files import read_weights
from benchmarks.explaining import FitOptions, FitReport, fit_backbone
from benchmarks.explaining.answers import upper_part
from benchmarks.explaining.fit_files import CHECKPOINT
from benchmarks.explaining.folder_lock import lock_folder
from benchmarks.explaining.network import NetworkSource, attach_to_backbone, open_network
from interp_core.errors import InterpError, StoreError
from interp_core.training import Epoch

pytestmark = pytest.mark.slow

OPTIONS = FitOptions(epochs=2, batch_size=4, workers=0)


def fit(weights: Path, photographs: Path, output: Path, **fields: Any) -> FitReport:
    arguments = {"options": OPTIONS, "progress": None, "image_size": SIDE, **fields}
    return fit_backbone(NAME, [photographs], output, weights=weights, **arguments)


def test_a_fit_trains_the_map_and_nothing_else(weights: Path, photographs: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    report = fit(weights, photographs, tmp_path / "lap", classes=list("abcd"), notify=lines.append)
    # Two of the twelve are held out.
    assert (report.images, report.epochs, report.answers_kept) == (10, 2, 1.0)
    assert list(report.unreadable) == ["broken.jpg"]
    assert lines
    assert not (tmp_path / "lap" / CHECKPOINT).exists()
    opened = open_network(NetworkSource(str(tmp_path / "lap")))
    assert (opened.state, opened.classes, opened.view.size) == ("fitted", tuple("abcd"), SIDE)
    stored = read_weights(weights)
    for name, value in opened.lap.backbone.state_dict().items():
        assert torch.equal(value, stored[f"model.{name}"]), name
    start = attach_to_backbone(NetworkSource(NAME, weights, image_size=SIDE)).lap.redistribution
    assert any(
        not torch.equal(a, b) for a, b in zip(start.parameters(), opened.lap.redistribution.parameters(), strict=True)
    )


def test_a_stopped_fit_ends_with_the_same_weights(weights: Path, photographs: Path, tmp_path: Path) -> None:
    def stop(epoch: Epoch) -> None:
        raise KeyboardInterrupt

    fit(weights, photographs, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(weights, photographs, tmp_path / "lap", progress=stop)
    assert (tmp_path / "lap" / CHECKPOINT).exists()
    fit(weights, photographs, tmp_path / "lap")
    name = "model.safetensors"
    assert (tmp_path / "lap" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_complete_fit_is_not_computed_again_and_not_overwritten(
    weights: Path, photographs: Path, tmp_path: Path
) -> None:
    first = fit(weights, photographs, tmp_path / "lap")
    again = fit(weights, photographs, tmp_path / "lap", progress=lambda _: pytest.fail("computed again"))
    assert again.was_done
    assert again.losses == first.losses
    with pytest.raises(StoreError, match="settings"):
        fit(weights, photographs, tmp_path / "lap", options=FitOptions(epochs=3, batch_size=4, workers=0))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("{}")
    with pytest.raises(StoreError, match="--output"):
        fit(weights, photographs, tmp_path / "other")


def test_two_fits_in_one_folder_are_told_apart(weights: Path, photographs: Path, tmp_path: Path) -> None:
    with lock_folder(tmp_path / "lap"), pytest.raises(StoreError, match="another process"):
        fit(weights, photographs, tmp_path / "lap")


def test_the_code_of_a_network_is_asked_for_again(code: Path, photographs: Path, tmp_path: Path) -> None:
    model = f"{code}:build"
    fields = {"options": OPTIONS, "progress": None, "image_size": SIDE}
    with pytest.raises(InterpError, match="--mean"):
        fit_backbone(model, [photographs], tmp_path / "lap", **fields)
    fit_backbone(model, [photographs], tmp_path / "lap", mean=(0.5,), std=(0.5,), **fields)
    with pytest.raises(InterpError, match="--backbone"):
        open_network(NetworkSource(str(tmp_path / "lap")))
    opened = open_network(NetworkSource(model), tmp_path / "lap")
    assert opened.view.mean == (0.5, 0.5, 0.5)
    assert opened.lap.num_classes == 3


@pytest.mark.parametrize(
    ("data", "fields", "expected"),
    [
        ("nowhere", {}, "does not exist"),
        ("empty", {}, "no images"),
        ("one", {}, "can be read"),
        ("photographs", {"classes": ["a"]}, "4 classes"),
        ("photographs", {"weights": None}, "--weights"),
        ("photographs", {"mean": (0.5,)}, "both"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    data: str, fields: dict[str, Any], expected: str, weights: Path, photographs: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "one").mkdir()
    next(photographs.rglob("*.png")).rename(tmp_path / "one" / "a.png")
    arguments = {"options": OPTIONS, "progress": None, "image_size": SIDE, "weights": weights, **fields}
    with pytest.raises(InterpError, match=expected) as caught:
        fit_backbone(NAME, [tmp_path / data], tmp_path / "lap", **arguments)
    assert "\n" not in str(caught.value)


def test_classes_and_channels_come_from_the_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(timm.create_model(NAME, num_classes=7, in_chans=1).state_dict(), tmp_path / "grey.pt")
    opened = attach_to_backbone(NetworkSource(NAME, tmp_path / "grey.pt", image_size=SIDE))
    assert (opened.lap.num_classes, opened.lap.info.in_channels) == (7, 1)
    assert opened.view.normalise(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), 1).shape == (2, 1, 8, 8)


def test_epochs_follow_the_number_of_images() -> None:
    assert [FitOptions().recipe(count).epochs for count in (10, 200, 2000, 50_000)] == [40, 20, 2, 2]
    assert FitOptions().recipe(5).batch_size == 5


def test_the_upper_part_is_a_share_of_the_pixels() -> None:
    part = upper_part(torch.arange(100.0).reshape(1, 1, 10, 10), 0.25)
    assert part.sum() == 25
    assert part[0, 0, -1].all()


def test_a_folder_of_hugging_face_is_a_backbone(photographs: Path, tmp_path: Path) -> None:
    from timm.models import save_for_hf

    torch.manual_seed(4)
    network = timm.create_model(NAME, num_classes=CLASSES)
    save_for_hf(network, tmp_path / "repository", model_args={"num_classes": CLASSES})
    report = fit_backbone(
        str(tmp_path / "repository"), [photographs], tmp_path / "lap", options=OPTIONS, progress=None, image_size=SIDE
    )
    opened = open_network(NetworkSource(str(report.folder)))
    assert opened.lap.num_classes == CLASSES
    for name, value in opened.lap.backbone.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])
