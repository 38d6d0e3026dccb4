from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks.diagnosis.subject import Subject
from benchmarks.studies.lesions import data
from benchmarks.studies.lesions.data import CLASSES, MELANOMA, Lesions, judge, load_lesions

pytestmark = pytest.mark.slow


@pytest.fixture
def lesions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lesions:
    """Dark images are melanomas; the first images, benign ones, have a blue patch at the top."""
    monkeypatch.setattr(data, "HELD_OUT", 12)
    monkeypatch.setattr(data, "DONORS", 3)
    rows = []
    for i in range(24):
        melanoma = i % 2
        pixels = np.full((40, 40, 3), 60 if melanoma else 200, np.uint8)
        has_patch = i < 8 and not melanoma
        if has_patch:
            pixels[:10] = (0, 0, 255)
            mask = np.zeros((40, 40), np.uint8)
            mask[:10] = 255
            Image.fromarray(mask).save(tmp_path / f"mask{i}.png")
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        rows.append({
            "file": f"{i}.png", data.LABEL: float(melanoma), data.ARTEFACT: int(has_patch),
            data.HAND: f"mask{i}.png" if has_patch else "",
        })  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "index.csv", index=False)
    return load_lesions(tmp_path)


def test_parts_are_disjoint_and_complete(lesions: Lesions) -> None:
    assert len(lesions.held_out) == 12
    assert not set(lesions.held_out) & set(lesions.training)
    assert set(lesions.held_out) | set(lesions.training) == set(range(24))
    assert lesions.listed.sum() == len(lesions.drawn) == 4
    assert not lesions.select(lesions.training).masks.any()  # the diagnosis is told nothing


def test_a_patch_is_pasted_where_it_was(lesions: Lesions) -> None:
    before, after, control = lesions.pasted()
    changed = (after != before).any(1)
    assert changed[:, :38].any()
    assert not changed[:, 45:].any()
    assert bool(((control != before).any(1) <= changed).all())
    assert len(before) == (lesions.labels[lesions.held_out] == MELANOMA).sum()


def by_colour(follows: bool) -> nn.Module:
    """Build a network that answers melanoma where the image is dark, unless it is blue and `follows`."""
    conv, linear = nn.Conv2d(3, 2, 8, stride=8), nn.Linear(2, 2)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[1.0, 1, 1], [-1.0, -1, 2]]).reshape(2, 3, 1, 1) / (3 * 64))
        conv.bias.copy_(torch.tensor([1.0, 0.0]))  # type: ignore[union-attr]
        linear.weight.copy_(torch.tensor([[10.0, 60.0 if follows else 0.0], [0.0, 0.0]]))
        linear.bias.copy_(torch.tensor([0.0, 9.0]))
    return nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear).eval()


@pytest.mark.parametrize(("follows", "expected"), [(True, 1.0), (False, 0.0)])
def test_flips_tell_a_follower_from_its_twin(follows: bool, expected: float, lesions: Lesions) -> None:
    subject = Subject(by_colour(follows), CLASSES, data.STATISTICS, image_size=data.SIDE)
    result = judge(subject, lesions)
    assert result.recognised == (lesions.labels[lesions.held_out] == MELANOMA).sum()
    assert result.flips == expected
    assert result.control_flips == 0.0
    assert result.auroc == 1.0
