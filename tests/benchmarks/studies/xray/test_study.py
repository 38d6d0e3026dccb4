"""The X-ray study goes from files to a page, and on where it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.layouts import rsna
from helpers.xrays import made_xrays
from sklearn.metrics import roc_auc_score

from benchmarks.studies.xray import page, study
from interp_core.training import Recipe

pytestmark = pytest.mark.slow


ARMS: dict[str, study.XrayArm] = {
    "plain": study.XrayArm(explained_by=("grad_cam",)),
    "lap": study.XrayArm(lap=True, terms=study.LABELS, explained_by=("lap", "grad_cam", "box_prior", "mask")),
    "lap_boxes": study.XrayArm(lap=True, terms=study.WITH_BOXES, boxes=3, explained_by=("lap",)),
    "plain_by_file": study.XrayArm(persons=False),
    "lap_refined": study.XrayArm(lap=True, terms=study.LABELS, explained_by=("lap_refined",), refined=True),
}


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Arguments of a study of 60 made images that takes seconds."""
    monkeypatch.setattr(study, "ARMS", ARMS)
    monkeypatch.setattr(study, "SIDE", 32)
    monkeypatch.setattr(study, "RECIPE", Recipe(epochs=2, batch_size=8, shift=2, flip=True, patience=2))
    monkeypatch.setattr(study, "REFINING", Recipe(mode="frozen", epochs=1, batch_size=8, shift=2))
    root = rsna(tmp_path / "rsna", 60)
    return {"root": root, "folds": 2, "seeds": (0, 1), "output": tmp_path / "out"}


class TestMaps:
    def test_the_mask_itself_scores_one(self) -> None:
        xrays = made_xrays()
        scores = study.score_maps(xrays.masks[:6].float(), xrays.images[:6], xrays.masks[:6], 0)
        assert set(scores) == set(page.METRICS)
        assert all((values == 1).all() for values in scores.values())

    def test_box_prior_is_the_same_for_all(self) -> None:
        prior = torch.rand(1, 16, 16)
        maps = study.explain(
            "box_prior", torch.nn.Identity(), made_xrays().images[:2], made_xrays().masks[:2], prior, 0
        )
        assert torch.equal(maps, torch.stack([prior, prior]))


class TestStudy:
    def test_goes_from_files_to_a_page(self, small: dict[str, Any], tmp_path: Path) -> None:
        picture = tmp_path / "pictures.png"
        paths = study.run(**small, pictures=picture)
        assert all(path.is_file() for path in paths)
        out = tmp_path / "out"
        answers = pd.read_csv(out / "medical_answers.csv")
        assert (answers.groupby(["arm", "seed"])["image"].nunique() == 60).all()
        assert len(answers) == 4 * 2 * 60
        maps = pd.read_csv(out / "medical_maps.csv")
        assert (maps.groupby(["arm", "seed", "explainer"])["image"].nunique() == 20).all()
        auroc = pd.read_csv(out / "medical_auroc.csv").set_index("arm")
        lap_answers = answers.query("arm == 'lap' and seed == 0")
        assert auroc.loc["lap", "seeds"] == 2
        assert auroc.loc["lap", "lowest_seed"] <= roc_auc_score(lap_answers["target"], lap_answers["score"]) + 1e-3
        text = (out / "medical.md").read_text()
        for words in ("60 chest X-rays of 60 persons, 20 with lung opacity", "10 boxes", "cannot show", "part files"):
            assert words in text
        assert (out / "medical_maps.png").read_bytes()[:4] == picture.read_bytes()[:4] == b"\x89PNG"
        assert not {"0/edges", "0/mask"} & set(np.load(out / "medical_shown.npz"))
        paired = pd.read_csv(out / "medical_paired.csv")
        assert set(paired["unit"]) == {"person", "image"}
        assert set(paired["explainer"]) == {"grad_cam", "box_prior"}

    def test_goes_on_where_it_was_killed(
        self, small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        arguments = {**small, "arms": ("plain", "lap"), "epochs": 1}
        out, real, calls = tmp_path / "out", study.train_and_score, []

        def killed(*arguments: Any) -> Any:
            calls.append(arguments[0])
            if len(calls) == 4:
                raise KeyboardInterrupt
            return real(*arguments)

        monkeypatch.setattr(study, "train_and_score", killed)
        with pytest.raises(KeyboardInterrupt):
            study.run(**arguments)
        # as if killed between the files: answers of a training that is in no table
        torn = pd.read_csv(out / "medical_answers.csv")
        torn = pd.concat([torn, torn.assign(arm="lap", seed=1, fold=1)])
        torn.to_csv(out / "medical_answers.csv", index=False)
        assert study.run(**arguments)
        assert len(calls) == 3 + 1 + 5
        answers = pd.read_csv(out / "medical_answers.csv")
        assert len(answers) == 2 * 2 * 60
        assert not answers.duplicated(["arm", "seed", "image"]).any()
        trained = pd.read_csv(out / "medical_trainings.csv")
        assert study.run(**arguments)
        assert len(calls) == 9
        pd.testing.assert_frame_equal(trained, pd.read_csv(out / "medical_trainings.csv"))

    def test_a_second_stage_hardly_moves_the_answers(self, small: dict[str, Any], tmp_path: Path) -> None:
        for arms in ("lap_refined", "lap"):
            study.run(**{**small, "arms": [arms], "split": "val", "seeds": (0,)})
        answers = pd.read_csv(tmp_path / "out" / "medical_answers.csv")
        wide = answers.pivot_table(index=["seed", "fold", "image"], columns="arm", values="score")
        assert np.abs(wide["lap"] - wide["lap_refined"]).max() < 0.05 * wide["lap"].std()
        maps = pd.read_csv(tmp_path / "out" / "medical_maps.csv")
        assert {"lap", "lap_refined"} == set(maps["arm"])
