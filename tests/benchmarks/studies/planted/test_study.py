from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.studies.planted import setting as settings_module
from benchmarks.studies.planted.causes import CAUSES
from benchmarks.studies.planted.report import alarms, recalls, uses_cause
from benchmarks.studies.planted.setting import Setting, settings_of
from benchmarks.studies.planted.study import METHODS, run

pytestmark = pytest.mark.slow


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_module, "COUNTS", {"train": 200, "val": 120, "test": 60})
    monkeypatch.setattr(settings_module, "RECIPE", {"epochs": 1, "batch_size": 32, "shift": 0})
    settings_module.digits.cache_clear()
    settings_module.statistics.cache_clear()
    yield
    settings_module.digits.cache_clear()
    settings_module.statistics.cache_clear()


@pytest.mark.usefixtures("tiny")
def test_a_stopped_study_continues(tmp_path: Path) -> None:
    names = ("diagnose", "PPS", "random")
    methods = {name: METHODS[name] for name in names}
    options = {"causes": ("tag",), "agreements": (1.0,), "scopes": ("all",), "controls": 0, "work": tmp_path / "work"}
    run(tmp_path, methods={"random": METHODS["random"]}, **options)  # type: ignore[arg-type]
    paths = run(tmp_path, methods=methods, **options)  # type: ignore[arg-type]
    rows = pd.read_csv(tmp_path / "planted.csv")
    assert set(rows["method"]) == set(names)
    assert len(rows) == len(names)
    assert all(path.exists() for path in paths)
    assert len(list((tmp_path / "work").iterdir())) == 1


def test_every_control_has_its_own_network() -> None:
    settings = settings_of(CAUSES, (0.9, 1.0), ("one", "all"), seeds=1, controls=4)
    units = [setting.unit for setting in settings]
    assert len(set(units)) == len(units)
    roles = pd.Series([setting.role for setting in settings]).value_counts()
    assert roles["nothing"] == roles["hidden"] == roles["uncorrelated"] == 4
    assert not any(s.cause == "labels" and s.agreement == 1 for s in settings)


@pytest.mark.usefixtures("tiny")
def test_roles_differ_in_what_is_trained_and_what_is_diagnosed() -> None:
    def cued(role: str, *, diagnosed: bool) -> float:
        planted = Setting("tag", role, 1.0, "all", 0).images("val", diagnosed=diagnosed)  # type: ignore[arg-type]
        return float((planted.cues == planted.images.targets).mean())

    assert cued("planted", diagnosed=False) == cued("planted", diagnosed=True) == 1.0
    assert cued("nothing", diagnosed=False) == cued("nothing", diagnosed=True) == 0.0
    assert cued("hidden", diagnosed=False) == 0.0
    assert cued("hidden", diagnosed=True) == 1.0
    assert cued("uncorrelated", diagnosed=True) < 0.3


def rows() -> pd.DataFrame:
    common = {"cause": "tag", "scope": "all", "method": "diagnose", "seconds": 1.0, "overlap": 0.5}
    return pd.DataFrame([
        {**common, "role": "planted", "agreement": 1.0, "use": 0.8, "recall_1": 1, "recall_3": 1, "recall_5": 1,
         "confirmed": 2, "confirmed_right": 1},
        {**common, "role": "planted", "agreement": 1.0, "use": 0.0, "recall_1": 0, "recall_3": 0, "recall_5": 0,
         "confirmed": 0, "confirmed_right": 0},
        {**common, "role": "nothing", "agreement": 1.0, "use": np.nan, "recall_1": 0, "recall_3": 0, "recall_5": 0,
         "confirmed": 1, "confirmed_right": 0},
        {**common, "role": "nothing", "agreement": 1.0, "use": np.nan, "recall_1": 0, "recall_3": 0, "recall_5": 0,
         "confirmed": 0, "confirmed_right": 0},
    ])  # fmt: skip


def test_networks_that_ignore_the_cue_do_not_count_for_recall() -> None:
    assert uses_cause(rows()).tolist() == [True, False, False, False]
    table = recalls(rows())
    assert dict(zip(table["scope"], table["networks"], strict=True)) == {"all": 1, "both": 1}
    assert table["recall@3"].tolist() == [1.0, 1.0]


def test_alarms_are_shares_of_networks_without_a_cause() -> None:
    table = alarms(rows())
    assert table["precision"].tolist() == [0.5]
    assert table["nothing"].tolist() == ["0.50 (2)"]
