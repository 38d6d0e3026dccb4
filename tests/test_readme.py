"""The README is a promise: its commands, code and pictures are what the project has."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import typer

import interp_core
from benchmarks.cli import app
from benchmarks.config.load import load_config
from benchmarks.plan.components import RunComponents

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ORDER = [
    "lap", "occlusion", "shap", "guided_grad_cam", "rise", "gradient_shap", "integrated_gradients", "lime", "grad_cam",
    "edges",
]  # fmt: skip
CI = (ROOT / ".ci" / "run").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def explainer_code() -> str:
    (code,) = [block for block in blocks("python") if "explainers.register" in block]
    return code


def test_ci_calls_the_test_command() -> None:
    (command,) = [line for block in blocks("sh") for line in block.splitlines() if line.endswith("/tox")]
    assert command in CI.splitlines()


def test_the_explainer_is_ten_lines_or_less_and_joins_a_run(tmp_path: Path) -> None:
    code = explainer_code()
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= 10
    path = tmp_path / "my_explainer.py"
    path.write_text(code)
    config = load_config(ROOT / "benchmarks" / "configs" / "smoke.yaml", {"plugins": [str(path)]})
    explainer = RunComponents(config).explainers["squared_gradient"]
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    maps = explainer(model, torch.randn(2, 3, 16, 16), torch.tensor([0, 1]))
    assert maps.shape == (2, 1, 16, 16)
    assert maps.min() >= 0
    assert maps.max() > 0


def test_the_first_code_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = [block for block in blocks("python") if "attach" in block]
    import timm

    real: Callable[..., torch.nn.Module] = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: real("test_resnet", num_classes=2))
    monkeypatch.chdir(tmp_path)
    images, targets = torch.randn(64, 3, 32, 32), torch.arange(64) % 2
    names: dict[str, object] = {"images": images, "targets": targets}
    exec(compile(ast.parse(code), "README", "exec"), names)
    explanation = names["explanation"]
    assert isinstance(explanation, interp_core.Explanation)
    assert explanation.map.shape == (64, 1, 32, 32)
    assert (tmp_path / "my_network.safetensors").exists()


def test_the_second_code_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = [block for block in blocks("python") if "interp_core.deploy.zoo" in block]
    import timm

    real: Callable[..., torch.nn.Module] = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **kwargs: real(name, pretrained=False, **kwargs))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {
        "timm": timm,
        "images": torch.randn(2, 3, 64, 64),
        "targets": torch.tensor([3, 4]),
    }
    exec(compile(ast.parse(code), "README", "exec"), names)
    logits, maps = names["logits"], names["maps"]
    assert isinstance(logits, torch.Tensor)
    assert isinstance(maps, torch.Tensor)
    assert (logits.shape, maps.shape) == ((2, 10), (2, 1, 64, 64))
    assert len(list((tmp_path / "overlays").glob("*.png"))) == 2
    assert (tmp_path / "my_network" / "model.safetensors").exists()


def _commands(group: Any, prefix: str = "") -> dict[str, Any]:
    """Return commands by name, those of groups after the group's name."""
    commands = {}
    for name, command in group.commands.items():
        is_group = hasattr(command, "commands")
        commands |= _commands(command, f"{prefix}{name} ") if is_group else {f"{prefix}{name}": command}
    return commands


def test_the_command_has_every_option_that_is_named() -> None:
    commands = _commands(typer.main.get_command(app))
    lines = [line.split("#")[0] for block in blocks("sh") for line in block.splitlines() if "interp-bench" in line]
    for line in lines:
        words = shlex.split(line)
        rest = words[next(i for i, word in enumerate(words) if word.endswith("interp-bench")) + 1 :]
        verb = next(name for name in (" ".join(rest[:2]), rest[0]) if name in commands)
        options = {option for parameter in commands[verb].params for option in parameter.opts}
        assert options.issuperset(word for word in rest if word.startswith("--")), line


def test_the_numbers_are_those_of_the_stored_comparison() -> None:
    folder = ROOT / "results" / "method" / "digits"
    ranks = pd.read_csv(folder / "tables" / "ranks.csv").set_index("explainer")
    passes = pd.read_csv(folder / "tables" / "summary.csv").query("metric == 'forwards'").set_index("explainer")["mean"]
    titles = {info["name"]: info["title"] for info in json.loads((folder / "run.json").read_text())["explainers"]}
    for name in ORDER:
        row = ranks.loc[name]
        title = "best control (edges)" if name == "edges" else titles[name]
        assert f"| {title} | {row['mean_rank']:.2f} | {row['mean_rank_all']:.2f} | {passes[name]:.0f} |" in README
    assert list(ranks["mean_rank"]) == sorted(ranks["mean_rank"])
    assert [name for name in ranks.index if name in ORDER] == ORDER


def test_what_sharpening_and_blurring_leave_is_told_as_it_is_stored() -> None:
    table = pd.read_csv(ROOT / "results" / "method" / "digits" / "tables" / "ablation_best.csv")
    sharp, smooth = (table[table["kind"] == kind].set_index("explainer")["mean_rank"] for kind in ("sharp", "smooth"))
    for form, words in (
        (sharp, "LAP stays first ({:.2f}, next {:.2f})"),
        (smooth, "too ({:.2f}, Gradient SHAP {:.2f})"),
    ):
        first, second = form.nsmallest(2)
        assert form.idxmin() == "lap"
        assert words.format(first, second) in README
    assert smooth.nsmallest(2).index[1] == "gradient_shap"


@pytest.mark.parametrize(
    ("name", "every"), [("digits", "digits"), ("tiny", "tiny"), ("pets_fits", "pets"), ("imagenet_fit", "imagenet")]
)
def test_photographs_are_told_as_they_are_stored(name: str, every: str) -> None:
    folder = ROOT / "results" / "method" / name
    ranks = pd.read_csv(folder / "tables" / "ranks.csv").set_index("explainer")
    described = json.loads((folder.parent / every / "run.json").read_text())["explainers"]
    titles = {info["name"]: info["title"] for info in described}
    other = ranks["mean_rank_all"].drop(["lap", "mask"], errors="ignore")
    table = pd.read_csv(folder / "tables" / "paired.csv").query("explainer != 'mask'")
    beaten = table[(table["verdict"] == "behind") & (table["p_holm"] < 0.05)]["metric"].nunique()
    lap, best = ranks.loc["lap"], f"{titles[other.idxmin()]} {other.min():.2f}"
    cells = f"| {lap['mean_rank_all']:.2f} | {best} | {lap['mean_rank']:.2f} | {table['metric'].nunique() - beaten} |"
    assert cells in next(
        line for line in README.splitlines() if f"](results/method/{name}/tables" in line and "|" in line[:1]
    )


def test_where_a_control_is_not_beaten_is_told_as_it_is_stored() -> None:
    lost = {}
    for name in ("tiny", "pets_fits", "imagenet_fit", "digits"):
        table = pd.read_csv(ROOT / "results" / "method" / name / "tables" / "summary.csv").dropna(subset="rank")
        ranks = table.pivot_table(index="metric", columns="explainer", values="rank")
        controls = ranks[["random", "smoothed_random", "centre_gaussian", "edges"]].min(axis=1)
        lost[name] = int((controls <= ranks["lap"]).sum())
    words = "tiny-imagenet {tiny}, pets {pets_fits}, ImageNet {imagenet_fit} of 11, on digits none"
    assert words.format(**lost) in README
    assert lost["digits"] == 0


def test_the_grid_pointing_game_is_told_as_it_is_stored() -> None:
    table = pd.read_csv(ROOT / "results" / "method" / "mosaics_fit" / "tables" / "summary.csv")
    means = table.query("metric == 'grid_pg'").set_index("explainer")["mean"]
    assert f"{means['lap']:.2f} against {means['grad_cam']:.2f}" in README


def test_what_is_said_of_single_metrics_is_what_holm_leaves() -> None:
    table = pd.read_csv(ROOT / "results" / "method" / "digits" / "tables" / "paired.csv").query("explainer != 'mask'")
    beaten = table[(table["verdict"] == "behind") & (table["p_holm"] < 0.05)]
    assert set(table["metric"]) - set(beaten["metric"]) == {
        "relevance_mass_accuracy", "relevance_rank_accuracy", "auc", "pointing_game", "insertion", "pixel_flipping",
        "region_perturbation", "road",
    }  # fmt: skip
    controls = table[table["explainer"].isin(["random", "smoothed_random", "centre_gaussian", "edges"])]
    assert ((controls["verdict"] == "ahead") & (controls["p_holm"] < 0.05)).all()


def test_control_is_told_as_it_is_stored() -> None:
    rows = (ROOT / "results" / "method" / "control_digits.md").read_text().splitlines()
    accuracy = {cells[1].strip(): cells[3].strip() for cells in (row.split("|") for row in rows) if len(cells) > 3}
    for arm in ("Plain, trained without tags", "LAP + Forbid + Exchange, tags found from 1 %", "Energy on CAM, 1 %",
                "Energy on CAM (= on Grad-CAM), all", "RRR, 1 %", "RRR, all"):  # fmt: skip
        assert accuracy[arm] in README, arm


def test_control_on_photographs_is_told_as_it_is_stored() -> None:
    rows = (ROOT / "results" / "method" / "control_tinyimagenet20.md").read_text().splitlines()
    told = {cells[1].strip(): cells for cells in (row.split("|") for row in rows) if len(cells) > 7}
    ours, clean = told["LAP + Forbid + Exchange, tags found from 1 %"], told["Plain, trained without tags"]
    assert f"{ours[3].strip()} of {clean[3].strip()} %" in README
    assert f"leave {ours[7].split('±')[0].strip()} % of the map on the tag" in README
    rival = told["RRR, 1 %"]
    assert f"RRR told the same: {rival[3].strip()}, {rival[7].split('±')[0].strip()} %" in README


def test_everything_linked_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
