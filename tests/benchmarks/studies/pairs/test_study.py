from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from benchmarks.config.errors import ConfigError
from benchmarks.studies.pairs import study
from benchmarks.studies.pairs.files import ImageFiles, paste_cues
from interp_core.errors import ContractError

SIDE, CUE = 32, 8
SETTINGS: dict[str, Any] = {
    "name": "corners",
    "backbone": "test_resnet",
    "classes": 2,
    "normalise": {"mean": [0.0] * 3, "std": [1.0] * 3},
    "mask": "mask",
    "size": SIDE,
    "proof": {"column": "label", "value": "1"},
    "explainers": ["input_x_gradient", {"name": "integrated_gradients", "steps": 4}, "random", "mask", "lap"],
}


class Reader(nn.Module):
    """A network whose class 0 is the brightness of the corner, of the rest, or of a mixture of both.

    Class 1 is a constant that dark images do not reach.
    """

    def __init__(self, on_cue: float) -> None:
        super().__init__()
        corner = torch.zeros(3, SIDE, SIDE)
        corner[:, :CUE, :CUE] = 1
        stripes = 1 + 0.5 * (-1.0) ** torch.arange(SIDE)
        self.weight = nn.Parameter(
            (on_cue * corner / corner.sum() + (1 - on_cue) * (1 - corner) / (1 - corner).sum()) * stripes
        )

    def forward(self, images: Tensor) -> Tensor:
        bright = (images * self.weight).sum((1, 2, 3))
        return torch.stack([bright, torch.full_like(bright, 0.5)], 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six bright images with a cue in the corner, of class 0, and eight dark ones of class 1."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:CUE, :CUE] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    rows = []
    for number in range(14):
        pixels = np.full((SIDE, SIDE, 3), 250 if number < 6 else 20, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append({"file": f"{number}.png", "label": int(number >= 6), "mask": "mask.png" if number < 6 else ""})
    with (tmp_path / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path


@pytest.fixture
def run_study(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Path]]:
    """Return a function that runs the study on two hand-made networks."""

    def run(user: float = 0.9, twin: float = 0.1, **changes: Any) -> list[Path]:
        networks = {"user": Reader(user).eval(), "twin": Reader(twin).eval()}
        monkeypatch.setattr(study, "load_plain", lambda _, path: networks[path.name])
        for name in networks:
            (tmp_path / name).write_bytes(b"weights")
        config = tmp_path / "pair.yaml"
        config.write_text(yaml.safe_dump(SETTINGS | changes))
        return study.run(config, folder, tmp_path / "user", tmp_path / "twin", tmp_path / "work", tmp_path / "out")

    return run


def test_shares_of_known_networks_are_found_and_a_second_run_explains_nothing(
    run_study: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shares, summary_path, table_path, facts_path = run_study()
    assert "lap can explain neither network" in capsys.readouterr().out
    summary = pd.read_csv(summary_path).set_index("explainer")
    assert set(summary.index) == {"input_x_gradient", "integrated_gradients", "random"}
    for name in ("input_x_gradient", "integrated_gradients"):
        assert summary.loc[name, ["user", "twin"]].tolist() == pytest.approx([0.9, 0.1], abs=0.01)
        assert summary.loc[name, "ratio_of_means"] == pytest.approx(9, rel=0.1)
        assert summary.loc[name, "ahead"] == 1
    assert summary.loc["random", ["ratio", "ratio_of_means", "ahead"]].tolist() == [1, 1, 0]
    assert len(pd.read_csv(shares)) == 3 * 6
    assert "| Random | 0.060 | 0.060 | 1.00 [1.00, 1.00]" in table_path.read_text()
    facts = json.loads(facts_path.read_text())
    answers = {"user": {"other_answers": 8, "follows": 1.0}, "twin": {"other_answers": 8, "follows": 0.0}}
    assert facts["proof"] == {"images": 8, "cues": 6, **answers}
    before = summary_path.read_text()
    monkeypatch.setattr(study.FilePair, "shares", lambda *_: None)
    run_study()
    assert summary_path.read_text() == before


def test_a_pair_whose_twin_follows_the_cue_is_refused(run_study: Callable[..., list[Path]], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"refused.*100% of the twin's \(20% allowed\)"):
        run_study(twin=0.9)
    with pytest.raises(ConfigError, match=r"refused.*0% of the user's"):
        run_study(user=0.1)
    assert not (tmp_path / "out").exists()


def test_settings_are_checked(run_study: Callable[..., list[Path]]) -> None:
    with pytest.raises(ConfigError, match="maske"):
        run_study(maske="mask")
    with pytest.raises(ContractError, match="no column masks"):
        run_study(mask="masks")
    with pytest.raises(ContractError, match="no column kind"):
        run_study(proof={"column": "kind", "value": "1"})
    with pytest.raises(ConfigError, match="no held-out image"):
        run_study(proof={"column": "label", "value": "7"})


def test_cues_are_pasted_in_turn() -> None:
    masks = np.zeros((2, 1, 4, 4), bool)
    masks[0, :, 0], masks[1, :, :, 0] = True, True
    donors = torch.stack([torch.full((3, 4, 4), 1.0), torch.full((3, 4, 4), 2.0)])
    pasted = paste_cues(torch.zeros(3, 3, 4, 4), donors, masks)
    assert pasted[0].sum() == 3 * 4
    assert pasted[1].sum() == 3 * 4 * 2
    assert torch.equal(pasted[2], pasted[0])


def test_a_folder_without_its_list_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"index\.csv does not exist"):
        ImageFiles.read(tmp_path, "index.csv", "file", "mask", 8)
