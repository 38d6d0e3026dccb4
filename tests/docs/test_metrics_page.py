"""The example of docs/metrics.md runs as it stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.cases import net_case
from helpers.pages import code_block, wide_lines
from helpers.shared import ROOT

from benchmarks.config.load import load_config
from benchmarks.metrics import Metric, metrics, passes_of
from benchmarks.plan.components import RunComponents

NAME = "top_tenth"


def test_lines_are_no_longer_than_those_of_the_code() -> None:
    assert wide_lines("metrics.md") == []


def test_the_page_has_every_metric() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    names = {score.name for metric in metrics.values() for score in metric.scores} | set(metrics)
    bare = {name.removesuffix("_morf").removesuffix("_lerf") for name in names}
    missing = {name for name in bare if f"`{name}`" not in page}
    assert missing == {"avg_sensitivity", "max_sensitivity"}  # the two scores of `sensitivity`


@pytest.fixture
def metric(tmp_path: Path) -> Iterator[Metric]:
    """The metric of the page, as a plugin of a run."""
    path = tmp_path / "my_metric.py"
    path.write_text(code_block("metrics.md", NAME))
    presets = ROOT / "benchmarks" / "config" / "presets"
    yield RunComponents(load_config(presets / "smoke.yaml", {"plugins": [str(path)]})).metrics[NAME]
    metrics._entries.pop(NAME)


@pytest.mark.slow
def test_the_metric_joins_a_run_and_gives_the_probability_of_the_highest_tenth(metric: Metric) -> None:
    case = net_case(3)
    assert case.model is not None
    cut = np.quantile(case.maps, 0.9, axis=(1, 2, 3), keepdims=True)
    images = torch.from_numpy(np.where(case.maps > cut, case.images, 0).astype(np.float32))
    with torch.no_grad():
        expected = case.model(images).softmax(1)[np.arange(3), case.targets]
    assert metric(case)[NAME] == pytest.approx(expected.numpy(), abs=1e-5)


@pytest.mark.slow
def test_its_forward_passes_are_shared(metric: Metric) -> None:
    case = net_case(3)
    shared = replace(case, passes=passes_of(case))
    assert shared.passes is not None
    metric(shared)
    metric(shared)
    assert shared.passes.forwards == 3
