from __future__ import annotations

from pathlib import Path

import pytest
from helpers import runs as synthetic
from helpers.reports import full_run

from benchmarks.report import RunData, analyse, write_report
from benchmarks.report.page import render_page
from benchmarks.statistics import Resampling
from benchmarks.statistics.analysis import RunAnalysis


@pytest.fixture(scope="session")
def analysis() -> RunAnalysis:
    """The made-up run, analysed."""
    return analyse(synthetic.run(), Resampling(resamples=200))


@pytest.fixture(scope="session")
def page(analysis: RunAnalysis) -> str:
    return render_page(analysis, [])


@pytest.fixture(scope="session")
def full_analysis() -> RunAnalysis:
    """The made-up run with areas and transformed maps, analysed."""
    return analyse(full_run(), Resampling(resamples=100))


@pytest.fixture(scope="session")
def full_page(full_analysis: RunAnalysis) -> str:
    return render_page(full_analysis, [])


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("run")
    scores = synthetic.scores(16)
    scores = scores[scores["metric"].isin(["mass", "auc", "pf_diff", "sparseness", "seconds", "forwards"])]
    write_report(RunData(synthetic.record(), scores, synthetic.gallery(images=2, size=32)), target)
    return target
