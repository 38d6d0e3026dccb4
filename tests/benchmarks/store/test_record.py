from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.shared import ROOT
from pydantic import BaseModel

from benchmarks.config.run import RunConfig
from benchmarks.run.engine import Outcome
from benchmarks.store import record as records
from benchmarks.store.record import ModelRecord, Problem, RunRecord
from benchmarks.store.run_folder import Store, read_record, read_run
from interp_core.errors import StoreError

STORED = sorted((ROOT / "results").rglob("run.json"))
# Keys of run.json and of its entries as the layout 1 has them; a reader of stored runs depends on them.
KEYS = [
    "schema", "name", "started", "finished", "config", "config_hash", "overrides", "versions", "python", "platform",
    "device", "threads", "git", "seeds", "dataset", "explainers", "metrics", "ablations", "audit", "models", "cells",
    "times", "problems", "degenerate", "computed", "reused",
]  # fmt: skip
ENTRY_KEYS = {
    "explainers": ["name", "title", "kind", "signed", "source", "params", "caveats"],
    "metrics": [
        "name", "metric", "title", "family", "direction", "low", "high", "ranked", "passing", "settings",
    ],
    "audit": ["metric", "model", "explainer", "images", "largest", "score", "what"],
    "models": [
        "name", "title", "backbone", "lap", "rival", "seed", "train_seconds", "val_accuracy", "test_accuracy",
        "parameters", "stages", "grid", "layer", "first", "pitch", "runtime",
        "runtimes_refused",
    ],
    "degenerate": ["model", "explainer", "degenerate", "maps"],
}  # fmt: skip
STAGE_KEYS = ["mode", "terms", "regions", "epochs", "steps", "seconds", "step_seconds", "val_accuracy"]
DATASET_KEYS = {
    "findings", "name", "title", "classes", "image_size", "split", "considered", "evaluated", "areas", "unreadable",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("path", STORED, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_stored_runs_come_back_without_loss(path: Path) -> None:
    content = json.loads(path.read_text())
    record = RunRecord.model_validate(content)
    written = json.loads(record.to_json())
    assert written == content
    assert list(written) == list(content)
    assert record.name == content["name"]
    assert [model.seed for model in record.models] == [entry["seed"] for entry in content["models"]]


def test_there_are_stored_runs() -> None:
    assert len(STORED) >= 20


@pytest.mark.slow
def test_a_run_writes_the_keys_of_its_layout(done: tuple[RunConfig, Outcome]) -> None:
    content = json.loads((done[1].folder / "run.json").read_text())
    assert list(content) == KEYS
    for field, keys in ENTRY_KEYS.items():
        assert content[field], field
        assert all(list(entry) == keys for entry in content[field] if entry.get("name") != "backwards"), field
    assert [list(stage) for model in content["models"] for stage in model["stages"]] == [STAGE_KEYS] * 2
    settings = set(done[0].dataset.model_dump()) | set(content["dataset"]) - DATASET_KEYS
    assert set(content["dataset"]) == DATASET_KEYS | settings - {"params"}
    assert set(content["git"] or {"commit", "dirty"}) == {"commit", "dirty"}


def test_missing_and_null_fields_are_alike(tmp_path: Path) -> None:
    for content in ({}, dict.fromkeys(KEYS), {"models": [{"name": "lap", "grid": None, "seed": None}]}):
        record = RunRecord.model_validate(content)
        assert (record.problems, record.dataset.areas, record.finished) == ([], {}, None)
    assert RunRecord.model_validate({"models": [{"name": "lap", "grid": None}]}).models == [ModelRecord(name="lap")]


def test_unknown_fields_are_kept() -> None:
    content: dict[str, Any] = {"schema": 1, "later": [1], "dataset": {"root": "x", "name": "y"}, "models": [{"a": 1}]}
    assert RunRecord.model_validate(content).to_dict() == content


def test_what_has_not_been_set_is_not_written() -> None:
    assert Problem(where="a", what="b").to_dict() == {"where": "a", "what": "b"}
    assert json.loads(RunRecord(name="run", finished=None).to_json()) == {"name": "run", "finished": None}


def test_wrong_types_are_an_error_that_names_the_field(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "run.json").write_text('{"models": [{"name": "lap", "seed": "first"}]}')
    with pytest.raises(StoreError, match=r"run\.json: models\.0\.seed: .*; run again to write it anew"):
        read_record(tmp_path)
    store.write_record(RunRecord(name="sound"))
    assert read_run(tmp_path).record.name == "sound"


def test_every_field_is_described() -> None:
    schema = RunRecord.model_json_schema()
    for name, model in {"RunRecord": schema, **schema["$defs"]}.items():
        assert all(field.get("description") for field in model["properties"].values()), name
    classes = {value for value in vars(records).values() if isinstance(value, type) and issubclass(value, BaseModel)}
    assert all(value.__doc__ for value in classes)
