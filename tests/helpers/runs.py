"""A run made up from a seed: two models, ten explainers (LAP on one model only), a dozen scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.store.record import RunRecord
from benchmarks.store.run_data import Gallery, RunData

MODELS = ("plain", "lap")
EXPLAINERS = (
    ("lap", "LAP (own)", "intrinsic", True),
    ("grad_cam", "Grad-CAM", "external", False),
    ("integrated_gradients", "Integrated Gradients", "external", True),
    ("lime", "LIME", "external", True),
    ("shap", "SHAP", "external", True),
    ("random", "Random", "control", False),
    ("smoothed_random", "Smoothed random", "control", False),
    ("centre_gaussian", "Centre Gaussian", "control", False),
    ("edges", "Edges", "control", False),
    ("mask", "Evidence mask", "control", False),
)
# name, title, family, direction, low, high, ranked, spread
METRICS = (
    ("mass", "Relevance mass accuracy", "localisation", "higher", 0, 1, True, 0.15),
    ("rank", "Relevance rank accuracy", "localisation", "higher", 0, 1, True, 0.15),
    ("pointing", "Pointing game", "localisation", "higher", 0, 1, True, 0.5),
    ("auc", "AUC", "localisation", "higher", 0, 1, True, 0.1),
    ("pf_morf", "Pixel flipping, MoRF", "faithfulness", "lower", 0, 1, False, 0.1),
    ("pf_lerf", "Pixel flipping, LeRF", "faithfulness", "higher", 0, 1, False, 0.1),
    ("pf_diff", "Pixel flipping, LeRF − MoRF", "faithfulness", "higher", -1, 1, True, 0.15),
    ("rp_morf", "Region perturbation, MoRF", "faithfulness", "higher", -1, 1, False, 0.15),
    ("rp_diff", "Region perturbation, MoRF − LeRF", "faithfulness", "higher", -1, 1, True, 0.2),
    ("fc", "Faithfulness correlation", "faithfulness", "higher", -1, 1, True, 0.2),
    ("sparseness", "Sparseness", "descriptor", "none", 0, 1, False, 0.05),
    ("seconds", "Seconds per image", "cost", "lower", 0, None, False, 0),
    ("forwards", "Forward passes per image", "cost", "lower", 0, None, False, 0),
)
QUALITY = {
    "lap": 0.72, "grad_cam": 0.66, "integrated_gradients": 0.6, "lime": 0.5, "shap": 0.58,
    "random": 0.1, "smoothed_random": 0.13, "centre_gaussian": 0.42, "edges": 0.3, "mask": 0.97,
}  # fmt: skip
FORWARDS = {"lap": 1, "grad_cam": 1, "integrated_gradients": 50, "lime": 1000, "shap": 500}
SECONDS = {"lap": 0.0012, "grad_cam": 0.0031, "integrated_gradients": 0.09, "lime": 0.8, "shap": 0.45, "mask": 1e-5}


def _values(name: str, explainer: str, spread: float, rng: np.random.Generator, images: int) -> np.ndarray:
    if name == "seconds":
        return SECONDS.get(explainer, 2e-4) * rng.uniform(0.9, 1.1, images)
    if name == "forwards":
        return np.full(images, float(FORWARDS.get(explainer, 0)))
    if name == "pointing":
        return (rng.random(images) < QUALITY[explainer]).astype(float)
    level = QUALITY[explainer] + rng.uniform(-0.12, 0.12)
    level = 1 - level if name == "pf_morf" else level
    return np.clip(level + spread * rng.standard_normal(images), 0, 1)


def scores(images: int = 48, seed: int = 0, seeds: tuple[int, ...] = (0,)) -> pd.DataFrame:
    """Make up a table of scores in which Grad-CAM has two degenerate maps and one image has no mask."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"test-{i:04d}" for i in range(images)])
    parts = []
    for model in MODELS:
        for explainer, *_ in EXPLAINERS if model == "lap" else EXPLAINERS[1:]:
            bad = np.isin(np.arange(images), [3, 7]) & (explainer == "grad_cam")
            for run_seed in seeds:
                for name, _, family, *_, spread in METRICS:
                    values = _values(name, explainer, spread, rng, images)
                    if family == "localisation":
                        values[5:6] = np.nan
                    columns = {"model": model, "explainer": explainer, "metric": name, "seed": run_seed}
                    parts.append(pd.DataFrame({**columns, "image_id": ids, "value": values, "degenerate": bad}))
    return pd.concat(parts, ignore_index=True)


def transformed(table: pd.DataFrame, transform: str = "smooth2", gain: float = 0.1) -> pd.DataFrame:
    """Add scores of LAP and Grad-CAM under a transform that raises those of Grad-CAM alone."""
    again = table[table["explainer"].isin(["lap", "grad_cam"])].copy()
    again.loc[again["explainer"] == "grad_cam", "value"] += gain
    again["explainer"] += f"@{transform}"
    return pd.concat([table, again], ignore_index=True)


def areas(images: int = 48) -> dict[str, float]:
    """Make up the share of each image that its evidence covers."""
    return {f"test-{i:04d}": 0.02 + 0.002 * i for i in range(images)}


def meta() -> dict[str, Any]:
    """Return the made-up run.json as plain data."""
    return {
        "schema": 1, "name": "synthetic",
        "started": "2025-01-01T10:00:00+00:00", "finished": "2025-01-01T10:07:00+00:00",
        "config": {"name": "synthetic", "images": 48, "training": {"epochs": 6}}, "config_hash": "0123456789abcdef",
        "versions": {"torch": "2.9.0", "captum": "0.8.0", "quantus": "0.6.0"}, "python": "3.11.9", "platform": "Linux",
        "device": "cpu", "threads": 2, "git": {"commit": "abcdef0123456789", "dirty": False}, "seeds": [0],
        "dataset": {
            "name": "digits-in-scenes", "title": "Digits in scenes", "image_size": 64, "classes": list("0123456789"),
            "train": 5000, "val": 1000, "test": 1000, "considered": 1000, "evaluated": 48,
        },
        "models": [
            {"name": "plain", "title": "test_resnet, plain", "backbone": "test_resnet", "lap": False, "seed": 0,
             "test_accuracy": 0.953, "train_seconds": 90.0, "parameters": 370000, "grid": [8, 8]},
            {"name": "lap", "title": "test_resnet with LAP", "backbone": "test_resnet", "lap": True, "seed": 0,
             "test_accuracy": 0.948, "train_seconds": 97.0, "parameters": 381000, "grid": [8, 8]},
        ],
        "explainers": [
            {"name": name, "title": title, "kind": kind, "signed": signed, "source": "a paper", "params": {"n": 1},
             "caveats": {"plain": "coarse maps"} if name == "grad_cam" else {}}
            for name, title, kind, signed in EXPLAINERS
        ],
        "metrics": [
            {"name": name, "metric": name, "title": title, "family": family, "direction": direction, "low": low,
             "high": high, "ranked": ranked, "settings": "baseline 0 (data mean), 64 regions of 8 px"}
            for name, title, family, direction, low, high, ranked, _ in METRICS
        ],
        "times": {"total": 420.0, "data": 6.0, "train": 187.0, "explain": 120.0, "metrics_model": 80.0,
                  "metrics_library": 12.0, "harness": 15.0},
        "problems": [
            {"where": "lime on plain, images 8 to 15", "what": "one segment only: the map is constant",
             "traceback": "Traceback (most recent call last):\n  ValueError: one segment"},
        ],
        "audit": [{"metric": "auc", "model": "lap", "explainer": "lime", "images": 8, "largest": 3e-7,
                   "engine": "quantus"}],
    }  # fmt: skip


def record(**changes: Any) -> RunRecord:
    """Return the made-up run.json as a record, with some fields changed."""
    return RunRecord.model_validate(meta() | changes)


def gallery(images: int = 6, size: int = 64, seed: int = 0) -> Gallery:
    """Make up pictures with a disc as evidence; one map has NaN, one is constant."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    centres = rng.uniform(0.3, 0.7, (images, 2))
    distance = np.hypot(y - centres[:, :1, None], x - centres[:, 1:, None])
    masks = distance < 0.16
    texture = rng.random((images, size // 8, size // 8, 3)).repeat(8, 1).repeat(8, 2)
    pictures = np.where(masks[..., None], 0.95, 0.25 + 0.5 * texture)
    maps = {}
    for model in MODELS:
        for explainer, *_ in EXPLAINERS if model == "lap" else EXPLAINERS[1:]:
            noise = rng.standard_normal((images, size, size))
            maps[model, explainer] = (np.exp(-distance / 0.2) + (1 - QUALITY[explainer]) * noise).astype(np.float32)
    maps["plain", "grad_cam"][1:2] = 0.5
    maps["lap", "lime"][2:3, 0, 0] = np.nan
    ids = [f"test-{i:04d}" for i in range(images)]
    return Gallery((255 * pictures).astype(np.uint8), masks, ids, [str(i % 10) for i in range(images)], maps)


def run(images: int = 48, seed: int = 0) -> RunData:
    """Make up a whole run."""
    return RunData(record(), scores(images, seed), gallery())


def with_kinds(kinds: Mapping[str, str]) -> RunRecord:
    """Return the made-up record with other kinds of some explainers, by name."""
    entries = [entry | {"kind": kinds.get(entry["name"], entry["kind"])} for entry in meta()["explainers"]]
    return record(explainers=entries)
